-- Of a slice, every key whose lines do not simply show its attempt's capture once, to the cent: most do,
-- and are looked at no closer. An attempt without a line and a line without an attempt are among them.
INSERT INTO reconcile_line
WITH zones AS MATERIALIZED (
  SELECT lane, settlements_statement_zone(lane) AS zone FROM settlements_statementterms
),
terms AS MATERIALIZED (
  SELECT lane, rate, fixed, valid_from,
         lead(valid_from) OVER (PARTITION BY lane ORDER BY valid_from) AS valid_to
  FROM settlements_feeterms
),
attempts AS (
  SELECT id, lane, outcome, captured_amount FROM checkout_attempt
  WHERE id >= %(low)s AND (%(high)s::uuid IS NULL OR id < %(high)s)
),
lines AS (
  SELECT l.key, l.gross, l.fee, l.booked_at, f.lane
  FROM settlements_statementline l
  JOIN settlements_statementimport f ON f.id = l.statement_id AND f.state = 'accepted'
  WHERE l.type = 'charge' AND l.key >= %(low)s AND (%(high)s::uuid IS NULL OR l.key < %(high)s)
)
SELECT coalesce(a.id, l.key) AS key
FROM attempts a
FULL JOIN lines l ON l.key = a.id
LEFT JOIN zones z ON z.lane = a.lane
LEFT JOIN terms t ON t.lane = a.lane
  AND t.valid_from <= (l.booked_at AT TIME ZONE coalesce(z.zone, 'UTC'))::date
  AND coalesce(t.valid_to > (l.booked_at AT TIME ZONE coalesce(z.zone, 'UTC'))::date, true)
GROUP BY coalesce(a.id, l.key)
HAVING count(*) > 1 OR NOT bool_and(CASE
  WHEN a.id IS NULL THEN false
  WHEN a.outcome NOT IN ('captured', 'unapplied') THEN l.key IS NULL
  ELSE coalesce(l.gross = a.captured_amount AND l.lane = a.lane
         AND coalesce(l.fee = round(a.captured_amount * t.rate + t.fixed, 2), true), false) END)
UNION
SELECT key FROM settlements_statementline
WHERE type <> 'charge' AND key >= %(low)s AND (%(high)s::uuid IS NULL OR key < %(high)s)
UNION
-- What a match concerns is not simply what the lines say.
SELECT key FROM settlements_matchedline
WHERE in_force AND key >= %(low)s AND (%(high)s::uuid IS NULL OR key < %(high)s)
UNION
SELECT attempt_id FROM settlements_matchedattempt
WHERE in_force AND attempt_id >= %(low)s AND (%(high)s::uuid IS NULL OR attempt_id < %(high)s);
