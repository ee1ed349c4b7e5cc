DROP FUNCTION settlements_local_day(timestamptz, text);
CREATE OR REPLACE FUNCTION settlements_day_start(day date, zone text) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN ((midnight - interval '1 hour') AT TIME ZONE zone)::date = day
              THEN midnight - interval '1 hour' ELSE midnight END
  FROM (SELECT day::timestamp AT TIME ZONE zone AS midnight) m
$$;
