-- A file is expected for every day of a lane with a capture, as soon as the capture is known.
INSERT INTO settlements_statementexpectation (lane, day, time_zone, due_at, state)
SELECT DISTINCT a.lane, day.utc, 'UTC',
       ((day.utc + 1)::timestamp AT TIME ZONE 'UTC') + %(statement_due)s * interval '1 second',
       'expected'
FROM reconcile_creator k
JOIN checkout_attempt a ON a.creator_id = k.id AND a.outcome IN ('captured', 'unapplied')
CROSS JOIN LATERAL (
  SELECT (coalesce(a.booked_at, a.ended_at) AT TIME ZONE 'UTC')::date AS utc) day
ON CONFLICT (lane, day) DO NOTHING
