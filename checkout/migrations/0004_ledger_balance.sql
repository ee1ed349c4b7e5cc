CREATE FUNCTION checkout_entry_balances() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  entry uuid := CASE WHEN TG_TABLE_NAME = 'checkout_ledgerentry'
                     THEN (to_jsonb(NEW) ->> 'id')::uuid
                     ELSE (to_jsonb(NEW) ->> 'entry_id')::uuid END;
  lines integer;
  total numeric;
BEGIN
  SELECT count(*), coalesce(sum(amount), 0) INTO lines, total
  FROM checkout_ledgerposting WHERE entry_id = entry;
  IF lines < 2 OR total <> 0 THEN
    RAISE EXCEPTION 'ledger entry %: % postings sum to % USD, not to zero', entry, lines, total
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END
$$;

-- Deferred, because the postings of an entry are inserted one after the other.
CREATE CONSTRAINT TRIGGER checkout_entry_balances AFTER INSERT ON checkout_ledgerentry
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION checkout_entry_balances();
CREATE CONSTRAINT TRIGGER checkout_posting_balances AFTER INSERT ON checkout_ledgerposting
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION checkout_entry_balances();
