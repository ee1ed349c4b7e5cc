-- A file is expected for every day of a lane with a capture, as soon as the capture is known; the
-- lane's terms say in whose zone its days are and when the file is due.
WITH zones AS MATERIALIZED (
  SELECT lane, settlements_statement_zone(lane) AS zone FROM settlements_statementterms
), days AS (
  SELECT DISTINCT a.lane, coalesce(z.zone, 'UTC') AS zone,
         (coalesce(a.booked_at, a.ended_at) AT TIME ZONE coalesce(z.zone, 'UTC'))::date AS day
  FROM reconcile_creator k
  JOIN checkout_attempt a ON a.creator_id = k.id AND a.outcome IN ('captured', 'unapplied')
  LEFT JOIN zones z ON z.lane = a.lane
)
INSERT INTO settlements_statementexpectation (lane, day, time_zone, due_at, state)
SELECT lane, day, zone, settlements_statement_due(lane, day, %(statement_due)s), 'expected'
FROM days
ON CONFLICT (lane, day) DO NOTHING
