CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_booking
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

-- They fire with session_replication_role = replica too: a cent edited here is named with what it was.
CREATE TRIGGER kept_update AFTER UPDATE ON settlements_booking
REFERENCING OLD TABLE AS was NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_kept(
  clearing, cash, fees, refunds, disputes, adjustments, unapplied_receipts, statement_id, payout_id, entry_id);
CREATE TRIGGER kept_delete AFTER DELETE ON settlements_booking REFERENCING OLD TABLE AS was
FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_kept(clearing);
ALTER TABLE settlements_booking ENABLE ALWAYS TRIGGER kept_update;
ALTER TABLE settlements_booking ENABLE ALWAYS TRIGGER kept_delete;
