-- What is requeued stays as it was proposed, a decision as it was decided. Approving wants the charges
-- to be as many, and of as much USD, as it says; a name typed at the command line is the same person's.
CREATE FUNCTION checkout_bulkrequeue_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  free text[] := ARRAY['decision', 'decided_by', 'decided_at', 'decided_because', 'finished_at'];
  items record;
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'bulk requeue %: it is never deleted', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  IF (to_jsonb(NEW) - free) <> (to_jsonb(OLD) - free) OR OLD.finished_at IS NOT NULL
     OR (OLD.decision <> ''
         AND (NEW.decision, NEW.decided_by, NEW.decided_at, NEW.decided_because)
             IS DISTINCT FROM (OLD.decision, OLD.decided_by, OLD.decided_at, OLD.decided_because)) THEN
    RAISE EXCEPTION 'bulk requeue %: what was proposed, decided or finished never changes', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.decision = 'approved' AND OLD.decision = '' THEN
    SELECT count(*) AS count, coalesce(sum(amount), 0) AS usd
    INTO items FROM checkout_bulkrequeueitem WHERE requeue_id = NEW.id AND outcome = '';
    IF (items.count, items.usd) IS DISTINCT FROM (NEW.count::bigint, NEW.usd) THEN
      RAISE EXCEPTION 'bulk requeue %: what it is about is not what was proposed', OLD.id
        USING ERRCODE = 'check_violation';
    END IF;
  END IF;
  IF NEW.decision IN ('approved', 'refused') AND NEW.proposed_by = 'command line: ' || NEW.decided_by THEN
    RAISE EXCEPTION 'bulk requeue %: who proposes does not approve', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER checkout_bulkrequeue_guard BEFORE UPDATE OR DELETE ON checkout_bulkrequeue
FOR EACH ROW EXECUTE FUNCTION checkout_bulkrequeue_guard();

-- A charge joins while nothing is decided, and is requeued once, only under what may be carried out (R43).
CREATE FUNCTION checkout_bulkrequeueitem_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'bulk requeue %: its charges stay', OLD.requeue_id USING ERRCODE = 'check_violation';
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF NEW.outcome <> '' OR NOT EXISTS (
         SELECT 1 FROM checkout_bulkrequeue r
         WHERE r.id = NEW.requeue_id AND r.decision = '' AND r.finished_at IS NULL) THEN
      RAISE EXCEPTION 'bulk requeue %: a charge joins it before it is decided', NEW.requeue_id
        USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
  END IF;
  IF OLD.outcome <> '' OR (NEW.requeue_id, NEW.charge_id, NEW.round, NEW.amount)
                          IS DISTINCT FROM (OLD.requeue_id, OLD.charge_id, OLD.round, OLD.amount) THEN
    RAISE EXCEPTION 'bulk requeue %: what became of a charge never changes', OLD.requeue_id
      USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.outcome = 'requeued' AND NOT EXISTS (
       SELECT 1 FROM checkout_bulkrequeue r
       WHERE r.id = NEW.requeue_id AND (NOT r.needs_approval OR r.decision = 'approved')) THEN
    RAISE EXCEPTION 'bulk requeue %: another person has not approved it', NEW.requeue_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER checkout_bulkrequeueitem_guard
BEFORE INSERT OR UPDATE OR DELETE ON checkout_bulkrequeueitem
FOR EACH ROW EXECUTE FUNCTION checkout_bulkrequeueitem_guard();

-- No more charges join than were counted, or one person's limit would bound nothing.
CREATE FUNCTION checkout_bulkrequeue_whole() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  over bigint;
BEGIN
  SELECT r.id INTO over FROM checkout_bulkrequeue r
  JOIN checkout_bulkrequeueitem i ON i.requeue_id = r.id
  WHERE r.id IN (SELECT DISTINCT requeue_id FROM joined)
  GROUP BY r.id, r.count, r.usd HAVING count(*) > r.count OR sum(i.amount) > r.usd LIMIT 1;
  IF over IS NOT NULL THEN
    RAISE EXCEPTION 'bulk requeue %: more charges than were counted', over
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER checkout_bulkrequeue_whole AFTER INSERT ON checkout_bulkrequeueitem
REFERENCING NEW TABLE AS joined
FOR EACH STATEMENT EXECUTE FUNCTION checkout_bulkrequeue_whole();

DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    REVOKE DELETE, TRUNCATE ON checkout_bulkrequeue, checkout_bulkrequeueitem FROM checkout_app;
  END IF;
END
$$;
