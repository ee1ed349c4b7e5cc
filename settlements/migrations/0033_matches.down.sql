DROP TRIGGER dirty_match ON settlements_matchedattempt;
DROP TRIGGER dirty_match ON settlements_matchedline;
DROP TRIGGER dirty_delete ON settlements_proposal;
DROP TRIGGER dirty_update ON settlements_proposal;
DROP FUNCTION settlements_mark_matched_attempt();
DROP FUNCTION settlements_mark_matched_line();
DROP FUNCTION settlements_mark_proposal();
DROP FUNCTION settlements_mark_match(bigint);
DROP TRIGGER settlements_match_freed ON settlements_proposal;
DROP FUNCTION settlements_match_freed();
DROP TRIGGER settlements_never_deleted ON settlements_matchedattempt;
DROP TRIGGER settlements_never_deleted ON settlements_matchedline;
DROP TRIGGER settlements_matched_attempt_guard ON settlements_matchedattempt;
DROP FUNCTION settlements_matched_attempt_guard();
DROP TRIGGER settlements_matched_line_guard ON settlements_matchedline;
DROP FUNCTION settlements_matched_line_guard();
CREATE OR REPLACE FUNCTION settlements_proposal_guard() RETURNS trigger LANGUAGE plpgsql AS $$
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
DROP FUNCTION settlements_match_holds(bigint, integer, numeric, numeric);
