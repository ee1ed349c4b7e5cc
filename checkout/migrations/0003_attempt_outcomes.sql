-- R26: "already paid" is read from attempts and ledger, whatever the charge's state says.
CREATE FUNCTION checkout_attempt_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.outcome <> 'open' THEN
    RETURN NEW;  -- a rebuild inserts what the processor already decided
  END IF;
  IF EXISTS (SELECT 1 FROM checkout_attempt a
             WHERE a.charge_id = NEW.charge_id AND a.outcome = 'captured') THEN
    RAISE EXCEPTION 'charge %: it is already paid', NEW.charge_id USING ERRCODE = 'check_violation';
  END IF;
  IF coalesce((SELECT sum(p.amount) FROM checkout_ledgerposting p
               WHERE p.charge_id = NEW.charge_id AND p.account = 'receivable'), 0) <= 0 THEN
    RAISE EXCEPTION 'charge %: nothing is receivable', NEW.charge_id
      USING ERRCODE = 'check_violation';
  END IF;
  IF (SELECT count(*) FROM checkout_attempt a
      WHERE a.charge_id = NEW.charge_id AND a.round = NEW.round
        AND a.outcome <> 'not_charged') >= 3 THEN
    RAISE EXCEPTION 'charge %: round % has its three attempts', NEW.charge_id, NEW.round
      USING ERRCODE = 'check_violation';
  END IF;
  IF EXISTS (SELECT 1 FROM checkout_instrument i
             WHERE i.id = NEW.instrument_id AND i.dead_at IS NOT NULL) THEN
    RAISE EXCEPTION 'instrument %: no further attempt on a dead instrument', NEW.instrument_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER checkout_attempt_begins BEFORE INSERT ON checkout_attempt
FOR EACH ROW EXECUTE FUNCTION checkout_attempt_begins();

CREATE FUNCTION checkout_attempt_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'attempt %: an attempt is never deleted', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  IF (NEW.id, NEW.charge_id, NEW.creator_id, NEW.instrument_id, NEW.round, NEW.number, NEW.amount,
      NEW.currency, NEW.started_at, NEW.lane)
     IS DISTINCT FROM
     (OLD.id, OLD.charge_id, OLD.creator_id, OLD.instrument_id, OLD.round, OLD.number, OLD.amount,
      OLD.currency, OLD.started_at, OLD.lane)
     OR NEW.sends < OLD.sends THEN
    RAISE EXCEPTION 'attempt %: what was sent never changes', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.outcome <> OLD.outcome AND NOT (
       OLD.outcome = 'open'
       OR OLD.outcome IN ('declined', 'not_charged') AND NEW.outcome IN ('captured', 'unapplied')
     ) THEN
    RAISE EXCEPTION 'attempt %: % is final, % cannot replace it', OLD.id, OLD.outcome, NEW.outcome
      USING ERRCODE = 'check_violation';
  END IF;
  IF OLD.outcome IN ('captured', 'unapplied')
     AND (NEW.captured_amount, NEW.captured_currency)
         IS DISTINCT FROM (OLD.captured_amount, OLD.captured_currency) THEN
    RAISE EXCEPTION 'attempt %: what was captured never changes', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER checkout_attempt_guard BEFORE UPDATE OR DELETE ON checkout_attempt
FOR EACH ROW EXECUTE FUNCTION checkout_attempt_guard();
