-- The trail is only ever added to; what was proposed is never removed.
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_deskaction
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_proposal
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_proposalitem
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

-- What is proposed stays as it was proposed, and a decision stays as it was decided. Approving wants the
-- items to be as many, and to sum to as much, as the proposal says (R43).
CREATE FUNCTION settlements_proposal_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  items record;
BEGIN
  IF OLD.decision <> ''
     OR (NEW.way, NEW.reason, NEW.count, NEW.net, NEW.absolute, NEW.sha256, NEW.proposed_by,
         NEW.proposed_at)
        IS DISTINCT FROM
        (OLD.way, OLD.reason, OLD.count, OLD.net, OLD.absolute, OLD.sha256, OLD.proposed_by,
         OLD.proposed_at) THEN
    RAISE EXCEPTION 'proposal %: what was proposed or decided never changes', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.decision = 'approved' THEN
    SELECT count(*) AS count, coalesce(sum(i.actual - i.expected), 0) AS net,
           coalesce(sum(abs(i.actual - i.expected)), 0) AS absolute,
           coalesce(bool_or((d.expected, d.actual, d.proposal_id)
                            IS DISTINCT FROM (i.expected, i.actual, NEW.id)
                            OR d.cleared_at IS NOT NULL), false) AS changed,
           coalesce(bool_or((i.entry_id IS NULL) = (NEW.way = 'corrected')), false) AS misbooked
    INTO items FROM settlements_proposalitem i
    JOIN settlements_discrepancy d ON d.id = i.discrepancy_id WHERE i.proposal_id = NEW.id;
    IF (items.count, items.net, items.absolute) IS DISTINCT FROM (NEW.count, NEW.net, NEW.absolute)
       OR items.changed OR items.misbooked THEN
      RAISE EXCEPTION 'proposal %: what it is about is not what was proposed', OLD.id
        USING ERRCODE = 'check_violation';
    END IF;
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_proposal_guard BEFORE UPDATE ON settlements_proposal
FOR EACH ROW EXECUTE FUNCTION settlements_proposal_guard();

-- An item is added before the decision, with its discrepancy's own amounts; later it only learns which
-- entries were posted for it, each once.
CREATE FUNCTION settlements_item_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NOT EXISTS (SELECT 1 FROM settlements_proposal p JOIN settlements_discrepancy d
                     ON d.id = NEW.discrepancy_id
                   WHERE p.id = NEW.proposal_id AND p.decision = ''
                     AND (d.expected, d.actual) = (NEW.expected, NEW.actual)) THEN
      RAISE EXCEPTION 'proposal %: an item is added undecided, with the amounts of its discrepancy',
        NEW.proposal_id USING ERRCODE = 'check_violation';
    END IF;
  ELSIF (NEW.proposal_id, NEW.discrepancy_id, NEW.expected, NEW.actual)
        IS DISTINCT FROM (OLD.proposal_id, OLD.discrepancy_id, OLD.expected, OLD.actual)
        OR (OLD.entry_id IS NOT NULL AND NEW.entry_id IS DISTINCT FROM OLD.entry_id)
        OR (OLD.reversal_id IS NOT NULL AND NEW.reversal_id IS DISTINCT FROM OLD.reversal_id) THEN
    RAISE EXCEPTION 'proposal %: an item never changes', OLD.proposal_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_item_guard BEFORE INSERT OR UPDATE ON settlements_proposalitem
FOR EACH ROW EXECUTE FUNCTION settlements_item_guard();

-- Resolved is only what an approved proposal names, with the amounts it was approved with. Found with
-- others, or found again after evidence had cleared it, it stands again, whoever wrote that.
CREATE FUNCTION settlements_resolution_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.resolved_at IS NOT NULL AND NEW.resolved_at IS NOT NULL
     AND ((NEW.expected, NEW.actual) IS DISTINCT FROM (OLD.expected, OLD.actual)
          OR (OLD.cleared_at IS NOT NULL AND NEW.cleared_at IS NULL)) THEN
    INSERT INTO settlements_deskaction (discrepancy_id, proposal_id, kind, by, at, reason, assigned_to)
    VALUES (NEW.id, OLD.proposal_id, 'reopened', 'reconciliation', NEW.last_seen_at,
            'Found again: ' || NEW.expected || ' expected, ' || NEW.actual || ' found; resolved were '
              || OLD.expected || ' and ' || OLD.actual || '.', '');
    NEW.resolved_at := NULL;
    NEW.proposal_id := NULL;
  END IF;
  IF NEW.resolved_at IS NOT NULL AND NOT EXISTS (
       SELECT 1 FROM settlements_proposal p
       JOIN settlements_proposalitem i ON i.proposal_id = p.id AND i.discrepancy_id = NEW.id
       WHERE p.id = NEW.proposal_id AND p.decision = 'approved'
         AND (i.expected, i.actual) = (NEW.expected, NEW.actual)) THEN
    RAISE EXCEPTION 'discrepancy %: no approved proposal resolves it as it stands', NEW.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_resolution_guard BEFORE UPDATE ON settlements_discrepancy
FOR EACH ROW WHEN (OLD.resolved_at IS NOT NULL OR NEW.resolved_at IS NOT NULL)
EXECUTE FUNCTION settlements_resolution_guard();

DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    REVOKE UPDATE, DELETE, TRUNCATE ON settlements_deskaction FROM checkout_app;
    REVOKE DELETE, TRUNCATE ON settlements_proposal, settlements_proposalitem FROM checkout_app;
  END IF;
END
$$;
