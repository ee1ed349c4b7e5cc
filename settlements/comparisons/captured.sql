-- Left: what is owed, and the charge's state. Right: what the processor said it captured.
WITH looked_at AS MATERIALIZED (
  SELECT c.id, c.creator_id, c.lane, c.state, coalesce(o.amount, c.amount) AS owed
  FROM {charges}
  LEFT JOIN reconcile_owed o
    ON o.subscription_id = c.subscription_id AND o.period_start = c.period_start
),
-- What two people approved with a match: it moved what is owed of the charge by its difference.
corrected AS MATERIALIZED (
  SELECT p.charge_id, sum(p.amount) AS amount
  FROM settlements_matchedattempt m
  CROSS JOIN LATERAL (VALUES (m.entry_id), (m.reversal_id)) AS posted(id)
  JOIN checkout_ledgerposting p ON p.entry_id = posted.id AND p.account = 'receivable'
  JOIN looked_at c ON c.id = p.charge_id
  GROUP BY p.charge_id
),
captures AS (
  SELECT a.charge_id, sum(a.captured_amount) FILTER (WHERE a.outcome = 'captured') AS applied,
         sum(a.captured_amount) FILTER (WHERE a.outcome = 'unapplied') AS unapplied,
         count(*) FILTER (WHERE a.outcome = 'captured') AS times,
         bool_or(a.captured_currency <> 'USD') AS foreign_money
  FROM looked_at c JOIN checkout_attempt a ON a.charge_id = c.id
  WHERE a.outcome IN ('captured', 'unapplied')
  GROUP BY a.charge_id
)
SELECT x.code, c.id::text AS subject, c.creator_id AS key, c.id AS charge_id, c.creator_id, c.lane,
       CASE x.code WHEN 'state' THEN CASE WHEN c.state = 'succeeded' THEN c.owed ELSE 0.00 END
                   WHEN 'unapplied' THEN 0.00 WHEN 'currency' THEN 0.00 ELSE c.owed END AS expected,
       CASE x.code WHEN 'state' THEN coalesce(c.applied, 0.00) WHEN 'unapplied' THEN c.unapplied
                   WHEN 'currency' THEN 0.00 ELSE c.applied END AS actual,
       CASE x.code
         WHEN 'state' THEN CASE WHEN c.state = 'succeeded'
           THEN 'The charge says succeeded, but no capture is known: ' || settlements_usd(c.owed)
             || ' was owed, 0.00 was captured.'
           ELSE settlements_usd(c.applied) || ' USD was captured, but the charge says '
             || c.state || ' instead of succeeded.' END
         WHEN 'unapplied' THEN settlements_usd(c.unapplied)
           || ' USD was captured that the charge could not take; it is owed back to the creator.'
         WHEN 'currency' THEN 'A capture of this charge is not in USD.'
         ELSE settlements_difference(c.owed, c.applied) || ': ' || settlements_usd(c.owed)
           || ' was owed, ' || settlements_usd(c.applied) || ' was captured.' END AS explanation
FROM (
  SELECT c.*, a.applied, a.unapplied, a.foreign_money,
         a.applied - coalesce(d.amount, 0.00) AS paid,
         (c.state = 'succeeded') <> (coalesce(a.times, 0) = 1) AS is_contrary
  FROM looked_at c
  LEFT JOIN captures a ON a.charge_id = c.id
  LEFT JOIN corrected d ON d.charge_id = c.id
) c
CROSS JOIN LATERAL (VALUES
  (CASE WHEN c.paid < c.owed THEN 'under_charge' WHEN c.paid > c.owed THEN 'surplus' END),
  (CASE WHEN c.is_contrary THEN 'state' END),
  (CASE WHEN c.unapplied IS NOT NULL THEN 'unapplied' END),
  (CASE WHEN c.foreign_money THEN 'currency' END)
) AS x(code)
WHERE (c.paid <> c.owed OR c.is_contrary OR c.unapplied IS NOT NULL OR c.foreign_money)
  AND x.code IS NOT NULL
