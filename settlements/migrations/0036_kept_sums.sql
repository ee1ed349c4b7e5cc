-- Sums and lines that nothing ever rewrites, settlements and banks' statements among them: a cent edited
-- in any of them is marked with what it was, as in the charges and the books. The arguments name the
-- columns, the first of them what is said of a row that was deleted.
CREATE FUNCTION settlements_mark_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'rewritten', (o.row ->> 'creator_id')::uuid, settlements_rewritten(
      TG_TABLE_NAME, o.row ->> 'id', (o.row ->> 'creator_id')::uuid, (o.row ->> 'charge_id')::uuid, '',
      o.row ->> TG_ARGV[0], '')
    FROM (SELECT to_jsonb(w) AS row FROM was w) o
    UNION ALL
    SELECT 'charge', (o.row ->> 'charge_id')::uuid, NULL::jsonb
    FROM (SELECT to_jsonb(w) AS row FROM was w) o WHERE o.row ? 'charge_id';
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'rewritten', (b.o ->> 'creator_id')::uuid, settlements_rewritten(
      TG_TABLE_NAME, b.n ->> 'id', (b.o ->> 'creator_id')::uuid, (b.o ->> 'charge_id')::uuid, f.name,
      b.o ->> f.name, b.n ->> f.name)
    FROM (SELECT to_jsonb(w) AS o, to_jsonb(r) AS n FROM was w JOIN became r ON r.id = w.id) b
    CROSS JOIN unnest(TG_ARGV) AS f(name)
    WHERE b.o ->> f.name IS DISTINCT FROM b.n ->> f.name
    UNION ALL
    SELECT 'charge', (b.o ->> 'charge_id')::uuid, NULL::jsonb
    FROM (SELECT to_jsonb(w) AS o FROM was w) b WHERE b.o ? 'charge_id';
  END IF;
  RETURN NULL;
END
$$;

-- A line put in past the triggers that add it up makes its settlement worth a look.
CREATE FUNCTION settlements_mark_settlement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject)
  SELECT DISTINCT 'creator', s.creator_id
  FROM became n JOIN settlements_settlement s ON s.id = n.settlement_id;
  RETURN NULL;
END
$$;
CREATE TRIGGER dirty_insert AFTER INSERT ON settlements_settlementline REFERENCING NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_settlement();
ALTER TABLE settlements_settlementline ENABLE ALWAYS TRIGGER dirty_insert;

-- ENABLE ALWAYS: they fire with session_replication_role = replica, when no other trigger does.
DO $$
DECLARE
  kept record;
BEGIN
  FOR kept IN SELECT * FROM (VALUES
    ('settlements_settlement', 'net, charged, unapplied, refunded, disputed, fees, adjusted,'
     ' line_count, creator_id, period_start, period_end, lands_on'),
    ('settlements_settlementline', 'amount, kind, settlement_id, attempt_id, charge_id,'
     ' statement_line_id, lane'),
    ('settlements_payoutpart', 'net, gross, refunds, disputes, adjustments, reserve, fees, paid,'
     ' line_count, payout_id, statement_id'),
    ('settlements_bankentry', 'amount, side, is_reversal, booked_on, value_on, statement_id'),
    ('settlements_bankstatement', 'movement, opening, closing'),
    ('settlements_statementimport', 'movement, opening, closing'),
    ('settlements_booksclose', 'debit, credit, carried_usd'),
    ('settlements_carriedover', 'usd, close_id')
  ) AS t(source, columns)
  LOOP
    EXECUTE format('CREATE TRIGGER kept_update AFTER UPDATE ON %I REFERENCING OLD TABLE AS was'
      ' NEW TABLE AS became FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_kept(%s)',
      kept.source, kept.columns);
    EXECUTE format('CREATE TRIGGER kept_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS was'
      ' FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_kept(%s)', kept.source, kept.columns);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER kept_update', kept.source);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER kept_delete', kept.source);
  END LOOP;
END
$$;
