-- A payout is the sum of its parts, for raw SQL too.
CREATE FUNCTION settlements_payout_adds_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  which bigint := CASE WHEN TG_TABLE_NAME = 'settlements_payout'
                       THEN (to_jsonb(NEW) ->> 'id')::bigint
                       ELSE (to_jsonb(NEW) ->> 'payout_id')::bigint END;
  said record;
  found record;
BEGIN
  SELECT gross, refunds, disputes, adjustments, reserve, fees, net, paid, line_count::bigint
  INTO said FROM settlements_payout WHERE id = which;
  SELECT coalesce(sum(gross), 0), coalesce(sum(refunds), 0), coalesce(sum(disputes), 0),
         coalesce(sum(adjustments), 0), coalesce(sum(reserve), 0), coalesce(sum(fees), 0),
         coalesce(sum(net), 0), coalesce(sum(paid), 0), coalesce(sum(line_count), 0)
  INTO found FROM settlements_payoutpart WHERE payout_id = which;
  IF said IS DISTINCT FROM found THEN
    RAISE EXCEPTION 'payout %: it says % and its parts say %', which, said, found
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER settlements_payout_adds_up AFTER INSERT OR UPDATE ON settlements_payout
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION settlements_payout_adds_up();
CREATE CONSTRAINT TRIGGER settlements_part_adds_up AFTER INSERT ON settlements_payoutpart
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION settlements_payout_adds_up();

-- Landed is what the bank says: one credit, of exactly what the lines come to and what was sent.
CREATE FUNCTION settlements_payout_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF (NEW.id, NEW.lane, NEW.reference) IS DISTINCT FROM (OLD.id, OLD.lane, OLD.reference) THEN
      RAISE EXCEPTION 'payout %: lane and reference never change', OLD.id
        USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.landed_on IS NOT DISTINCT FROM OLD.landed_on THEN
      RETURN NEW;
    END IF;
    IF OLD.landed_on IS NOT NULL THEN
      RAISE EXCEPTION 'payout %: what has landed stays landed', OLD.id
        USING ERRCODE = 'check_violation';
    END IF;
  ELSIF NEW.landed_on IS NULL THEN
    RETURN NEW;
  END IF;
  IF NEW.paid <> NEW.net OR 1 <> (
    SELECT count(*) FROM settlements_payoutcredit c JOIN settlements_bankentry e ON e.id = c.entry_id
    WHERE c.payout_id = NEW.id AND e.net = NEW.net) THEN
    RAISE EXCEPTION 'payout %: no single credit of % USD at the bank', NEW.id, NEW.net
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_payout_kept BEFORE INSERT OR UPDATE ON settlements_payout
FOR EACH ROW EXECUTE FUNCTION settlements_payout_kept();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_payout
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_payoutpart
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_gatheredstatement
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_payoutcredit
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

-- A settlement is looked at once it is closed: its payouts may have landed before it.
CREATE FUNCTION settlements_settlement_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO settlements_proofmark (settlement_id) SELECT id FROM became;
  RETURN NULL;
END
$$;
CREATE TRIGGER settlements_settlement_closed AFTER INSERT ON settlements_settlement
REFERENCING NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_settlement_closed();
INSERT INTO settlements_proofmark (settlement_id)
SELECT id FROM settlements_settlement WHERE proved_at IS NULL;

CREATE FUNCTION settlements_too(expected numeric, actual numeric) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT settlements_usd(abs(actual - expected)) || ' USD too '
    || CASE WHEN actual < expected THEN 'little' ELSE 'much' END
$$;
