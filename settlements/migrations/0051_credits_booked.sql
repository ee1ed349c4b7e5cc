-- A booking from before is of the first credit of its payout, which is what it moved; of no other row.
ALTER TABLE settlements_booking DISABLE TRIGGER settlements_never_deleted;
UPDATE settlements_booking b SET credit_id = (
  SELECT min(c.id) FROM settlements_payoutcredit c WHERE c.payout_id = b.payout_id)
WHERE b.payout_id IS NOT NULL AND b.cash <> 0;
ALTER TABLE settlements_booking ENABLE TRIGGER settlements_never_deleted;

-- The version before this one writes such rows for as long as it runs beside it: they are taken for what
-- they are, so that of one credit there is one row, whichever version came first.
CREATE FUNCTION settlements_booking_of_a_bank() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.payout_id IS NOT NULL AND NEW.credit_id IS NULL AND NEW.cash <> 0 THEN
    NEW.credit_id := (SELECT min(id) FROM settlements_payoutcredit WHERE payout_id = NEW.payout_id);
  END IF;
  IF NEW.credit_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM settlements_payoutcredit c JOIN settlements_bankentry e ON e.id = c.entry_id
    WHERE c.id = NEW.credit_id AND c.payout_id = coalesce(NEW.payout_id, c.payout_id)
      AND e.net = NEW.cash) THEN
    RAISE EXCEPTION 'credit %: % USD is not what the bank credited', NEW.credit_id, NEW.cash
      USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.payout_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM settlements_payout p
    WHERE p.id = NEW.payout_id AND p.landed_on IS NOT NULL AND p.kept = NEW.fees) THEN
    RAISE EXCEPTION 'payout %: % USD is not what the bank kept of one that landed',
      NEW.payout_id, NEW.fees USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_booking_of_a_bank BEFORE INSERT ON settlements_booking
FOR EACH ROW EXECUTE FUNCTION settlements_booking_of_a_bank();

DROP TRIGGER kept_update ON settlements_booking;
CREATE TRIGGER kept_update AFTER UPDATE ON settlements_booking
REFERENCING OLD TABLE AS was NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_kept(
  clearing, cash, fees, refunds, disputes, adjustments, unapplied_receipts, statement_id, payout_id,
  credit_id, entry_id);
ALTER TABLE settlements_booking ENABLE ALWAYS TRIGGER kept_update;
