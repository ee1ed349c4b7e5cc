-- A zone that this server's release does not know, or that was edited into nonsense, must be named
-- by a comparison and not end the pass for everybody: such a day is taken as UTC's.
CREATE OR REPLACE FUNCTION settlements_day_start(day date, zone text) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
DECLARE
  midnight timestamptz;
BEGIN
  midnight := day::timestamp AT TIME ZONE zone;
  IF ((midnight - interval '1 hour') AT TIME ZONE zone)::date = day THEN
    RETURN midnight - interval '1 hour';
  END IF;
  RETURN midnight;
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN day::timestamp AT TIME ZONE 'UTC';
END
$$;

CREATE FUNCTION settlements_local_day(instant timestamptz, zone text) RETURNS date
LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN (instant AT TIME ZONE zone)::date;
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN (instant AT TIME ZONE 'UTC')::date;
END
$$;
