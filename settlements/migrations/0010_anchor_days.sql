-- One or more days, in order, each once, within the interval; a NULL inside would pass any CHECK.
CREATE FUNCTION settlements_anchors_fit(kind text, anchors smallint[]) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT cardinality(anchors) > 0 AND array_position(anchors, NULL) IS NULL
     AND anchors = ARRAY(SELECT DISTINCT a FROM unnest(anchors) a ORDER BY a)
     AND 1 <= ALL (anchors)
     AND CASE kind WHEN 'day' THEN 1 WHEN 'week' THEN 7 ELSE 31 END >= ALL (anchors)
$$;

-- What the single day of the version before means. It took any day up to 28 for a week and for days.
CREATE FUNCTION settlements_anchors_of(kind text, anchor smallint) RETURNS smallint[]
LANGUAGE sql IMMUTABLE AS $$
  SELECT ARRAY[CASE kind WHEN 'day' THEN 1 WHEN 'week' THEN (anchor - 1) % 7 + 1 ELSE anchor END]::smallint[]
$$;

ALTER TABLE settlements_routeschedule
  ADD COLUMN anchor_days smallint[] NOT NULL DEFAULT '{}',
  ADD COLUMN calendar varchar(40) NOT NULL DEFAULT 'us-fed',
  ALTER COLUMN anchor_day SET DEFAULT 1;
ALTER TABLE settlements_settlementschedule
  ADD COLUMN anchor_days smallint[] NOT NULL DEFAULT '{}',
  ADD COLUMN calendar varchar(40) NOT NULL DEFAULT 'us-fed',
  ALTER COLUMN anchor_day SET DEFAULT 1;

UPDATE settlements_routeschedule SET anchor_days = settlements_anchors_of(interval, anchor_day);
UPDATE settlements_settlementschedule SET anchor_days = settlements_anchors_of(interval, anchor_day);

ALTER TABLE settlements_routeschedule
  ADD CONSTRAINT route_schedule_anchors CHECK (settlements_anchors_fit(interval, anchor_days)),
  ADD CONSTRAINT route_schedule_calendar CHECK (calendar <> '');
ALTER TABLE settlements_settlementschedule
  ADD CONSTRAINT schedule_anchors CHECK (settlements_anchors_fit(interval, anchor_days)),
  ADD CONSTRAINT schedule_calendar CHECK (calendar <> '');

-- Two versions side by side (decision 0008): the one before writes and reads anchor_day alone.
CREATE FUNCTION settlements_both_anchors() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.anchor_days = '{}' THEN
    NEW.anchor_days := settlements_anchors_of(NEW.interval, NEW.anchor_day);
  END IF;
  -- Within what its own CHECK takes; of two complaints the one about anchor_days is the useful one.
  NEW.anchor_day := greatest(least(NEW.anchor_days[1], 28), 1);
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_both_anchors BEFORE INSERT OR UPDATE ON settlements_routeschedule
FOR EACH ROW EXECUTE FUNCTION settlements_both_anchors();
CREATE TRIGGER settlements_both_anchors BEFORE INSERT ON settlements_settlementschedule
FOR EACH ROW EXECUTE FUNCTION settlements_both_anchors();

-- A version is closed once; nothing else of it changes, or settled periods would be of a schedule
-- that nobody agreed on.
CREATE FUNCTION settlements_version_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.active_to IS NOT NULL OR NEW.active_to IS NULL
     OR to_jsonb(OLD) - 'active_to' IS DISTINCT FROM to_jsonb(NEW) - 'active_to' THEN
    RAISE EXCEPTION 'settlement schedule %: a version is never changed, only closed; write the next one', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_version_kept BEFORE UPDATE ON settlements_settlementschedule
FOR EACH ROW EXECUTE FUNCTION settlements_version_kept();
