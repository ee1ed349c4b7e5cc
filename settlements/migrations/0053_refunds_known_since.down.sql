DROP TRIGGER kept_update ON settlements_booking;
CREATE TRIGGER kept_update AFTER UPDATE ON settlements_booking
REFERENCING OLD TABLE AS was NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_kept(
  clearing, cash, fees, refunds, disputes, adjustments, unapplied_receipts, statement_id, payout_id,
  credit_id, entry_id);
ALTER TABLE settlements_booking ENABLE ALWAYS TRIGGER kept_update;
