-- Weekends count with every calendar, as in settlements/calendar.py.
CREATE FUNCTION settlements_is_business_day(day date, of_calendar text) RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT extract(isodow FROM day) < 6 AND NOT EXISTS (
    SELECT 1 FROM settlements_holiday h WHERE h.calendar = of_calendar AND h.day = $1)
$$;

-- So many business days after its day; a zone that this server does not know is taken as UTC.
CREATE FUNCTION settlements_bank_due(
  day date, of_calendar text, due_days int, due_time time, zone text
) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  due date;
BEGIN
  SELECT d::date INTO due FROM generate_series(day + 1, day + 400, interval '1 day') AS d
  WHERE settlements_is_business_day(d::date, of_calendar) ORDER BY d OFFSET due_days - 1 LIMIT 1;
  RETURN (due + due_time) AT TIME ZONE zone;
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN (due + due_time) AT TIME ZONE 'UTC';
END
$$;

-- Which statement covers each expected day that no accepted one covered before: an accepted one if there
-- is one, else the newest set aside.
CREATE FUNCTION settlements_note_bank_days(of_account text) RETURNS void LANGUAGE sql AS $$
  UPDATE settlements_bankexpectation e
  SET state = CASE found.state WHEN 'accepted' THEN 'arrived' ELSE 'quarantined' END,
      statement_id = found.id
  FROM (
    SELECT DISTINCT ON (x.id) x.id AS expected, b.id, b.state
    FROM settlements_bankexpectation x
    JOIN settlements_bankstatement b
      ON b.account = x.account AND x.day BETWEEN b.first_day AND b.last_day
    WHERE x.account = of_account AND x.state <> 'arrived'
    ORDER BY x.id, (b.state = 'accepted') DESC, b.id DESC
  ) found
  WHERE e.id = found.expected
    AND (found.state = 'accepted' OR e.statement_id IS DISTINCT FROM found.id)
$$;

-- What arrived stays arrived, and no day that was expected is forgotten.
CREATE FUNCTION settlements_bank_day_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.account, NEW.day) <> (OLD.account, OLD.day) OR OLD.state = 'arrived' THEN
    RAISE EXCEPTION 'bank expectation %: what arrived, and for which day, never changes', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_bank_day_kept BEFORE UPDATE ON settlements_bankexpectation
FOR EACH ROW EXECUTE FUNCTION settlements_bank_day_kept();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_bankexpectation
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

CREATE FUNCTION settlements_bank_terms_zone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM now() AT TIME ZONE NEW.time_zone;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_bank_terms_zone BEFORE INSERT OR UPDATE ON settlements_bankterms
FOR EACH ROW EXECUTE FUNCTION settlements_bank_terms_zone();
