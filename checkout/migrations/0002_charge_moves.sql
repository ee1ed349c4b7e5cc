-- The table of LEGAL_MOVES in models/charges.py, for raw SQL too; a test holds them together.
CREATE FUNCTION checkout_legal_move(was text, becomes text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT becomes = ANY (CASE was
    WHEN 'due' THEN ARRAY['attempting', 'exhausted', 'voided', 'succeeded']
    WHEN 'attempting' THEN
      ARRAY['succeeded', 'failed_then_retry', 'in_doubt', 'pending', 'exhausted', 'voided']
    WHEN 'failed_then_retry' THEN ARRAY['attempting', 'exhausted', 'voided', 'succeeded']
    WHEN 'in_doubt' THEN ARRAY['succeeded', 'failed_then_retry', 'exhausted', 'voided']
    WHEN 'pending' THEN ARRAY['succeeded', 'failed_then_retry', 'exhausted', 'voided']
    WHEN 'exhausted' THEN ARRAY['due', 'voided', 'written_off', 'succeeded']
    ELSE ARRAY[]::text[]
  END)
$$;

CREATE FUNCTION checkout_charge_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'charge %: a charge is never deleted', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.state <> OLD.state AND NOT checkout_legal_move(OLD.state, NEW.state) THEN
    RAISE EXCEPTION 'charge %: % to % is not a legal move', OLD.id, OLD.state, NEW.state
      USING ERRCODE = 'check_violation';
  END IF;
  IF (NEW.id, NEW.creator_id, NEW.subscription_id, NEW.terms_id, NEW.period_start, NEW.period_end,
      NEW.amount, NEW.expected_amount, NEW.currency, NEW.billed_at)
     IS DISTINCT FROM
     (OLD.id, OLD.creator_id, OLD.subscription_id, OLD.terms_id, OLD.period_start, OLD.period_end,
      OLD.amount, OLD.expected_amount, OLD.currency, OLD.billed_at) THEN
    RAISE EXCEPTION 'charge %: what is owed, by whom and for which period never changes', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.round < OLD.round OR NEW.dispatch < OLD.dispatch THEN
    RAISE EXCEPTION 'charge %: round and dispatch only grow', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER checkout_charge_guard BEFORE UPDATE OR DELETE ON checkout_charge
FOR EACH ROW EXECUTE FUNCTION checkout_charge_guard();
