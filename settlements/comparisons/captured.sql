-- Left: what is owed, and the charge's state. Right: what the processor said it captured.
WITH corrected AS MATERIALIZED (
  -- What two people approved with a match: it moved what is owed of the charge by its difference.
  SELECT p.charge_id, sum(p.amount) AS amount
  FROM reconcile_creator k
  JOIN settlements_matchedattempt m ON m.creator_id = k.id
  CROSS JOIN LATERAL (VALUES (m.entry_id), (m.reversal_id)) AS posted(id)
  JOIN checkout_ledgerposting p ON p.entry_id = posted.id AND p.account = 'receivable'
  GROUP BY p.charge_id
)
SELECT x.code, c.id::text AS subject, c.creator_id AS key, c.id AS charge_id, c.creator_id, c.lane,
       x.expected, x.actual, x.explanation
FROM reconcile_creator k
JOIN checkout_charge c ON c.creator_id = k.id
LEFT JOIN reconcile_owed o
  ON o.subscription_id = c.subscription_id AND o.period_start = c.period_start
LEFT JOIN corrected ON corrected.charge_id = c.id
CROSS JOIN LATERAL (SELECT coalesce(o.amount, c.amount) AS amount) owed
CROSS JOIN LATERAL (
  SELECT sum(a.captured_amount) FILTER (WHERE a.outcome = 'captured') AS applied,
         sum(a.captured_amount) FILTER (WHERE a.outcome = 'unapplied') AS unapplied,
         count(*) FILTER (WHERE a.outcome = 'captured') AS applied_count,
         bool_or(a.outcome IN ('captured', 'unapplied') AND a.captured_currency <> 'USD') AS foreign_money
  FROM checkout_attempt a WHERE a.charge_id = c.id
) captured
CROSS JOIN LATERAL (VALUES
  (CASE WHEN captured.applied - coalesce(corrected.amount, 0.00) < owed.amount THEN 'under_charge'
        WHEN captured.applied - coalesce(corrected.amount, 0.00) > owed.amount THEN 'surplus' END,
   owed.amount, captured.applied,
   settlements_difference(owed.amount, captured.applied) || ': ' || settlements_usd(owed.amount)
     || ' was owed, ' || settlements_usd(captured.applied) || ' was captured.'),
  (CASE WHEN (c.state = 'succeeded') <> (captured.applied_count = 1) THEN 'state' END,
   CASE WHEN c.state = 'succeeded' THEN owed.amount ELSE 0.00 END,
   coalesce(captured.applied, 0.00),
   CASE WHEN c.state = 'succeeded'
        THEN 'The charge says succeeded, but no capture is known: ' || settlements_usd(owed.amount)
          || ' was owed, 0.00 was captured.'
        ELSE settlements_usd(captured.applied) || ' USD was captured, but the charge says '
          || c.state || ' instead of succeeded.' END),
  (CASE WHEN captured.unapplied IS NOT NULL THEN 'unapplied' END,
   0.00, captured.unapplied,
   settlements_usd(captured.unapplied) || ' USD was captured that the charge could not take; it is '
     || 'owed back to the creator.'),
  (CASE WHEN captured.foreign_money THEN 'currency' END,
   0.00, 0.00, 'A capture of this charge is not in USD.')
) AS x(code, expected, actual, explanation)
WHERE x.code IS NOT NULL
