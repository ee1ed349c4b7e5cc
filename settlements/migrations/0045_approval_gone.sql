-- Resolved is only what an approved proposal names, with the amounts it was approved with. Found with
-- others, or found again after evidence had cleared it, it stands again, whoever wrote that; so does one
-- whose approval was edited away: a pass must not stop at it.
CREATE OR REPLACE FUNCTION settlements_resolution_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  is_approved boolean := NEW.resolved_at IS NULL OR EXISTS (
    SELECT 1 FROM settlements_proposal p
    JOIN settlements_proposalitem i ON i.proposal_id = p.id AND i.discrepancy_id = NEW.id
    WHERE p.id = NEW.proposal_id AND p.decision = 'approved'
      AND (i.expected, i.actual) = (NEW.expected, NEW.actual));
BEGIN
  IF OLD.resolved_at IS NOT NULL AND NEW.resolved_at IS NOT NULL
     AND (NOT is_approved OR (OLD.cleared_at IS NOT NULL AND NEW.cleared_at IS NULL)) THEN
    INSERT INTO settlements_deskaction (discrepancy_id, proposal_id, kind, by, at, reason, assigned_to)
    VALUES (NEW.id, OLD.proposal_id, 'reopened', 'reconciliation', NEW.last_seen_at,
            CASE WHEN (NEW.expected, NEW.actual) = (OLD.expected, OLD.actual) AND NOT is_approved
              THEN 'Its approval is not there any more.'
              ELSE 'Found again: ' || NEW.expected || ' expected, ' || NEW.actual || ' found; resolved were '
                || OLD.expected || ' and ' || OLD.actual || '.' END, '');
    NEW.resolved_at := NULL;
    NEW.proposal_id := NULL;
  ELSIF NOT is_approved THEN
    RAISE EXCEPTION 'discrepancy %: no approved proposal resolves it as it stands', NEW.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
