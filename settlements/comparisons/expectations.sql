-- A file is expected for every day of a lane with a capture, as soon as the capture is known; the
-- lane's terms say in whose zone its days are and when the file is due.
WITH zones AS MATERIALIZED (
  SELECT lane, settlements_statement_zone(lane) AS zone FROM settlements_statementterms
), days AS (
  SELECT DISTINCT a.lane, coalesce(z.zone, 'UTC') AS zone,
         (coalesce(a.booked_at, a.ended_at) AT TIME ZONE coalesce(z.zone, 'UTC'))::date AS day
  FROM {attempts}
  LEFT JOIN zones z ON z.lane = a.lane
  WHERE a.outcome IN ('captured', 'unapplied')
)
INSERT INTO settlements_statementexpectation (lane, day, time_zone, due_at, state)
SELECT lane, day, zone, settlements_statement_due(lane, day, %(statement_due)s), 'expected'
FROM days
ON CONFLICT (lane, day) DO NOTHING;

-- A bank's statement is expected for each business day of an account that has terms, once that day is over.
INSERT INTO settlements_bankexpectation (account, day, due_at, state)
SELECT t.account, d::date,
       settlements_bank_due(d::date, t.calendar, t.due_days, t.due_time, t.time_zone), 'expected'
FROM settlements_bankterms t
CROSS JOIN LATERAL (
  SELECT coalesce(max(e.day) + 1, t.from_day) AS day FROM settlements_bankexpectation e
  WHERE e.account = t.account
) next
CROSS JOIN LATERAL generate_series(
  greatest(next.day, t.from_day)::timestamp,
  settlements_local_day(%(business)s, t.time_zone) - interval '1 day', interval '1 day') AS d
WHERE settlements_is_business_day(d::date, t.calendar)
ON CONFLICT (account, day) DO NOTHING;
SELECT settlements_note_bank_days(account) FROM settlements_bankterms
