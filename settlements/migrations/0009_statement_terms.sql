-- What a bank wrote stays as it wrote it; of its statement only the verdict moves.
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_bankentry
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_bankstatement
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

CREATE FUNCTION settlements_bank_statement_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (to_jsonb(NEW) - 'state' - 'reason' - 'accepted_at')
     <> (to_jsonb(OLD) - 'state' - 'reason' - 'accepted_at') OR OLD.state = 'accepted' THEN
    RAISE EXCEPTION 'bank statement %: what the bank wrote never changes, nor what was accepted', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_bank_statement_kept BEFORE UPDATE ON settlements_bankstatement
FOR EACH ROW EXECUTE FUNCTION settlements_bank_statement_kept();

-- The days of a lane's files are in one zone: two would leave hours out, or count them twice.
CREATE FUNCTION settlements_terms_zone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM now() AT TIME ZONE NEW.time_zone;
  IF TG_OP = 'UPDATE' AND NEW.lane <> OLD.lane THEN
    RAISE EXCEPTION 'statement terms of %: the lane stays; add terms for the other lane', OLD.lane
      USING ERRCODE = 'check_violation';
  END IF;
  IF EXISTS (SELECT 1 FROM settlements_statementexpectation e
             WHERE e.lane = NEW.lane AND e.state = 'arrived' AND e.time_zone <> NEW.time_zone) THEN
    RAISE EXCEPTION 'statement terms of %: a file was accepted, so its days stay in their zone', NEW.lane
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_terms_zone BEFORE INSERT OR UPDATE ON settlements_statementterms
FOR EACH ROW EXECUTE FUNCTION settlements_terms_zone();

-- Days of the former zone are expected no more; the next pass expects those of the new one. A day
-- more on each side, since the two zones' days do not begin together.
CREATE FUNCTION settlements_terms_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, detail)
  SELECT 'days', jsonb_build_object('lane', lane, 'first', min(day) - 1, 'last', max(day) + 1)
  FROM settlements_statementexpectation
  WHERE lane = NEW.lane AND time_zone <> NEW.time_zone AND state IN ('expected', 'late')
  GROUP BY lane;
  DELETE FROM settlements_statementexpectation
  WHERE lane = NEW.lane AND time_zone <> NEW.time_zone AND state IN ('expected', 'late');
  RETURN NULL;
END
$$;
CREATE TRIGGER settlements_terms_days AFTER INSERT OR UPDATE ON settlements_statementterms
FOR EACH ROW EXECUTE FUNCTION settlements_terms_days();

-- In whose zone a lane's days are; nonsense edited in behind the trigger must not end a pass for all.
CREATE FUNCTION settlements_statement_zone(of_lane text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  zone text;
BEGIN
  SELECT t.time_zone INTO zone FROM settlements_statementterms t WHERE t.lane = of_lane;
  PERFORM now() AT TIME ZONE zone;
  RETURN coalesce(zone, 'UTC');
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN 'UTC';
END
$$;

-- When the file that covers this day is due. Without terms: so many seconds after the day's end, UTC.
CREATE FUNCTION settlements_statement_due(of_lane text, day date, seconds double precision)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT coalesce(
    (SELECT (CASE t.covers
               WHEN 'week' THEN date_trunc('week', day)::date + 6
               WHEN 'month' THEN (date_trunc('month', day) + interval '1 month')::date - 1
               ELSE day END + t.due_days + t.due_time) AT TIME ZONE settlements_statement_zone(of_lane)
     FROM settlements_statementterms t WHERE t.lane = of_lane),
    ((day + 1)::timestamp AT TIME ZONE 'UTC') + seconds * interval '1 second')
$$;
