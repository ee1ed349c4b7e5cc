DO $$
DECLARE
  source text;
BEGIN
  FOREACH source IN ARRAY ARRAY['checkout_charge', 'checkout_attempt', 'checkout_ledgerentry',
    'checkout_ledgerposting', 'checkout_subscription', 'checkout_subscriptionterms',
    'checkout_outboxmessage', 'checkout_creator', 'settlements_statementline',
    'settlements_statementimport', 'settlements_statementexpectation', 'settlements_feeterms']
  LOOP
    EXECUTE format('DROP TRIGGER IF EXISTS dirty_insert ON %I', source);
    EXECUTE format('DROP TRIGGER IF EXISTS dirty_update ON %I', source);
    EXECUTE format('DROP TRIGGER IF EXISTS dirty_delete ON %I', source);
  END LOOP;
END
$$;
DROP FUNCTION settlements_mark_charge();
DROP FUNCTION settlements_mark_attempt();
DROP FUNCTION settlements_mark_entry();
DROP FUNCTION settlements_mark_posting();
DROP FUNCTION settlements_mark_terms();
DROP FUNCTION settlements_mark_subscription();
DROP FUNCTION settlements_mark_message();
DROP FUNCTION settlements_mark_message_row();
DROP FUNCTION settlements_mark_creator_row();
DROP FUNCTION settlements_mark_line();
DROP FUNCTION settlements_mark_statement();
DROP FUNCTION settlements_mark_day();
DROP FUNCTION settlements_mark_fee_terms();
DROP FUNCTION settlements_rewritten(text, text, uuid, uuid, text, text, text);
