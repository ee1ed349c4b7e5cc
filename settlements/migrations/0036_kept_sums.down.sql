DO $$
DECLARE
  source text;
BEGIN
  FOREACH source IN ARRAY ARRAY['settlements_settlement', 'settlements_settlementline',
    'settlements_payoutpart', 'settlements_bankentry', 'settlements_bankstatement',
    'settlements_statementimport', 'settlements_booksclose', 'settlements_carriedover']
  LOOP
    EXECUTE format('DROP TRIGGER kept_update ON %I', source);
    EXECUTE format('DROP TRIGGER kept_delete ON %I', source);
  END LOOP;
END
$$;
DROP TRIGGER dirty_insert ON settlements_settlementline;
DROP FUNCTION settlements_mark_settlement();
DROP FUNCTION settlements_mark_kept();
