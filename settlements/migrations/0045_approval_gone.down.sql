CREATE OR REPLACE FUNCTION settlements_resolution_guard() RETURNS trigger LANGUAGE plpgsql AS $$
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
