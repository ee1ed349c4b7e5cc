-- What left and what the bank credited differ, by a fee of the bank's; two people accepted exactly these
-- amounts, and the discrepancy still says them.
CREATE FUNCTION settlements_kept_by_bank(payout bigint, paid numeric, credited numeric)
RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (
    SELECT 1 FROM settlements_discrepancy d
    WHERE d.fingerprint = 'payout:amount:' || payout || ':bank'
      AND d.resolved_at IS NOT NULL AND d.cleared_at IS NULL
      AND (d.expected, d.actual) = (paid, credited))
    AND credited > 0 AND credited < paid
$$;
CREATE OR REPLACE FUNCTION settlements_payout_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF (NEW.id, NEW.lane, NEW.reference) IS DISTINCT FROM (OLD.id, OLD.lane, OLD.reference) THEN
      RAISE EXCEPTION 'payout %: lane and reference never change', OLD.id
        USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.landed_on IS NOT DISTINCT FROM OLD.landed_on AND NEW.kept = OLD.kept THEN
      RETURN NEW;
    END IF;
    IF OLD.landed_on IS NOT NULL THEN
      RAISE EXCEPTION 'payout %: what has landed stays landed', OLD.id
        USING ERRCODE = 'check_violation';
    END IF;
  ELSIF NEW.landed_on IS NULL THEN
    RETURN NEW;
  END IF;
  IF NEW.line_count > 0 AND NEW.paid = 0 AND NEW.net = 0 AND NEW.landed_on = NEW.value_on
     AND NOT EXISTS (SELECT 1 FROM settlements_payoutcredit c WHERE c.payout_id = NEW.id) THEN
    RETURN NEW;
  END IF;
  IF NEW.line_count > 0 AND NEW.paid <> NEW.net OR 1 <> (
    SELECT count(*) FROM settlements_payoutcredit c JOIN settlements_bankentry e ON e.id = c.entry_id
    WHERE c.payout_id = NEW.id AND e.net = NEW.paid - NEW.kept
      AND (NEW.kept = 0 OR settlements_kept_by_bank(NEW.id, NEW.paid, e.net))) THEN
    RAISE EXCEPTION 'payout %: no single credit of % USD at the bank', NEW.id, NEW.paid
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
