-- Whether a match is whole: every line and attempt reads as it was approved, all of one processor
-- account and in USD, one of them alone on its side, and the sums are those of its proposal.
CREATE FUNCTION settlements_match_holds(
  proposal bigint, row_count integer, usd numeric, difference numeric)
RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT coalesce(
    l.same AND a.same AND l.first_lane = l.last_lane AND a.first_lane = a.last_lane
    AND l.first_lane = a.first_lane AND (l.count = 1 OR a.count = 1) AND l.count + a.count = row_count
    AND l.gross = usd AND l.gross - a.amount = difference AND a.correction = difference, false)
  FROM (
    SELECT count(*) AS count, sum(m.gross) AS gross, min(f.lane) AS first_lane, max(f.lane) AS last_lane,
           bool_and(coalesce(m.in_force AND f.state = 'accepted' AND s.type = 'charge'
             AND (s.currency, s.key, s.gross) = ('USD', m.key, m.gross), false)) AS same
    FROM settlements_matchedline m
    LEFT JOIN settlements_statementline s ON s.id = m.line_id
    LEFT JOIN settlements_statementimport f ON f.id = s.statement_id
    WHERE m.proposal_id = proposal
  ) l CROSS JOIN (
    SELECT count(*) AS count, sum(m.amount) AS amount, sum(m.correction) AS correction,
           min(t.lane) AS first_lane, max(t.lane) AS last_lane,
           bool_and(coalesce(m.in_force AND t.outcome IN ('captured', 'unapplied')
             AND (t.captured_currency, t.captured_amount, t.creator_id)
               = ('USD', m.captured, m.creator_id)
             AND (m.correction = 0) = (m.entry_id IS NULL), false)) AS same
    FROM settlements_matchedattempt m
    LEFT JOIN checkout_attempt t ON t.id = m.attempt_id
    WHERE m.proposal_id = proposal
  ) a
$$;

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
  IF NEW.decision = 'approved' AND NEW.way = 'matched' THEN
    IF NOT settlements_match_holds(NEW.id, NEW.count, NEW.absolute, NEW.net) THEN
      RAISE EXCEPTION 'proposal %: its lines and attempts are not what was proposed', OLD.id
        USING ERRCODE = 'check_violation';
    END IF;
  ELSIF NEW.decision = 'approved' THEN
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

-- A row is added before the decision, as the line and the attempt read then; later it only goes out of
-- force, and learns which entries were posted for it, each once.
CREATE FUNCTION settlements_matched_line_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NOT EXISTS (
         SELECT 1 FROM settlements_proposal p
         JOIN settlements_statementline s ON s.id = NEW.line_id AND s.type = 'charge'
         JOIN settlements_statementimport f ON f.id = s.statement_id AND f.state = 'accepted'
         WHERE p.id = NEW.proposal_id AND p.way = 'matched' AND p.decision = '' AND NEW.in_force
           AND (s.key, s.gross) = (NEW.key, NEW.gross)) THEN
      RAISE EXCEPTION 'proposal %: a charge line of an accepted file is matched undecided, as it reads',
        NEW.proposal_id USING ERRCODE = 'check_violation';
    END IF;
  ELSIF NEW.in_force OR (to_jsonb(NEW) - 'in_force') <> (to_jsonb(OLD) - 'in_force') THEN
    RAISE EXCEPTION 'proposal %: what is matched never changes', OLD.proposal_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_matched_line_guard BEFORE INSERT OR UPDATE ON settlements_matchedline
FOR EACH ROW EXECUTE FUNCTION settlements_matched_line_guard();

CREATE FUNCTION settlements_matched_attempt_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NOT EXISTS (
         SELECT 1 FROM settlements_proposal p JOIN checkout_attempt t ON t.id = NEW.attempt_id
         WHERE p.id = NEW.proposal_id AND p.way = 'matched' AND p.decision = '' AND NEW.in_force
           AND NEW.entry_id IS NULL AND NEW.reversal_id IS NULL
           AND (t.outcome = 'open' OR t.outcome IN ('captured', 'unapplied'))
           AND (t.creator_id, t.outcome = 'open', coalesce(t.captured_amount, t.amount))
             = (NEW.creator_id, NEW.was_open, NEW.amount)) THEN
      RAISE EXCEPTION 'proposal %: an attempt, captured or in doubt, is matched undecided, as it reads',
        NEW.proposal_id USING ERRCODE = 'check_violation';
    END IF;
  ELSIF (NEW.in_force AND NOT OLD.in_force)
        OR (to_jsonb(NEW) - '{in_force,entry_id,reversal_id}'::text[])
           <> (to_jsonb(OLD) - '{in_force,entry_id,reversal_id}'::text[])
        OR (OLD.entry_id IS NOT NULL AND NEW.entry_id IS DISTINCT FROM OLD.entry_id)
        OR (OLD.reversal_id IS NOT NULL AND NEW.reversal_id IS DISTINCT FROM OLD.reversal_id) THEN
    RAISE EXCEPTION 'proposal %: what is matched never changes', OLD.proposal_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_matched_attempt_guard BEFORE INSERT OR UPDATE ON settlements_matchedattempt
FOR EACH ROW EXECUTE FUNCTION settlements_matched_attempt_guard();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_matchedline
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_matchedattempt
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

-- What was refused or withdrawn is free for another match.
CREATE FUNCTION settlements_match_freed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE settlements_matchedline SET in_force = false WHERE proposal_id = NEW.id AND in_force;
  UPDATE settlements_matchedattempt SET in_force = false WHERE proposal_id = NEW.id AND in_force;
  RETURN NULL;
END
$$;
CREATE TRIGGER settlements_match_freed AFTER UPDATE ON settlements_proposal
FOR EACH ROW WHEN (NEW.way = 'matched' AND NEW.decision IN ('refused', 'withdrawn'))
EXECUTE FUNCTION settlements_match_freed();

-- What was approved, or taken apart, or edited behind the service, is worth another look: both sides,
-- and the attempts that the lines themselves name (R55).
CREATE FUNCTION settlements_mark_match(proposal bigint) RETURNS void LANGUAGE sql AS $$
  INSERT INTO reconcile_dirty (kind, subject)
  SELECT 'line', key FROM settlements_matchedline WHERE proposal_id = proposal
  UNION
  SELECT 'line', s.key FROM settlements_matchedline m
  JOIN settlements_statementline s ON s.id = m.line_id WHERE m.proposal_id = proposal
  UNION
  SELECT 'creator', creator_id FROM settlements_matchedattempt WHERE proposal_id = proposal
  UNION
  SELECT 'creator', t.creator_id FROM settlements_matchedattempt m
  JOIN checkout_attempt t ON t.id = m.attempt_id WHERE m.proposal_id = proposal
$$;

CREATE FUNCTION settlements_mark_proposal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM settlements_mark_match(OLD.id);
  RETURN NULL;
END
$$;
CREATE FUNCTION settlements_mark_matched_line() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject)
    SELECT 'line', OLD.key
    UNION SELECT 'line', s.key FROM settlements_statementline s WHERE s.id = OLD.line_id;
    PERFORM settlements_mark_match(OLD.proposal_id);
  END IF;
  IF TG_OP <> 'DELETE' AND (TG_OP = 'INSERT' OR NEW.proposal_id <> OLD.proposal_id
                            OR NEW.line_id <> OLD.line_id) THEN
    PERFORM settlements_mark_match(NEW.proposal_id);
  END IF;
  RETURN NULL;
END
$$;
CREATE FUNCTION settlements_mark_matched_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject)
    SELECT 'creator', OLD.creator_id
    UNION SELECT 'creator', t.creator_id FROM checkout_attempt t WHERE t.id = OLD.attempt_id;
    PERFORM settlements_mark_match(OLD.proposal_id);
  END IF;
  IF TG_OP <> 'DELETE' AND (TG_OP = 'INSERT' OR NEW.proposal_id <> OLD.proposal_id
                            OR NEW.attempt_id <> OLD.attempt_id) THEN
    PERFORM settlements_mark_match(NEW.proposal_id);
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER dirty_update AFTER UPDATE ON settlements_proposal FOR EACH ROW
WHEN ('matched' IN (OLD.way, NEW.way) AND 'approved' IN (OLD.decision, NEW.decision))
EXECUTE FUNCTION settlements_mark_proposal();
CREATE TRIGGER dirty_delete AFTER DELETE ON settlements_proposal FOR EACH ROW
WHEN (OLD.way = 'matched') EXECUTE FUNCTION settlements_mark_proposal();
CREATE TRIGGER dirty_match AFTER INSERT OR UPDATE OR DELETE ON settlements_matchedline
FOR EACH ROW EXECUTE FUNCTION settlements_mark_matched_line();
CREATE TRIGGER dirty_match AFTER INSERT OR UPDATE OR DELETE ON settlements_matchedattempt
FOR EACH ROW EXECUTE FUNCTION settlements_mark_matched_attempt();
ALTER TABLE settlements_proposal ENABLE ALWAYS TRIGGER dirty_update;
ALTER TABLE settlements_proposal ENABLE ALWAYS TRIGGER dirty_delete;
ALTER TABLE settlements_matchedline ENABLE ALWAYS TRIGGER dirty_match;
ALTER TABLE settlements_matchedattempt ENABLE ALWAYS TRIGGER dirty_match;

DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    REVOKE DELETE, TRUNCATE ON settlements_matchedline, settlements_matchedattempt FROM checkout_app;
  END IF;
END
$$;
