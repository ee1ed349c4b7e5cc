-- Left: terms, price and calendar. Right: the charge's row.
SELECT x.code, c.id::text AS subject, c.creator_id AS key, c.id AS charge_id, c.creator_id, c.lane,
       x.expected, x.actual, x.explanation
FROM reconcile_creator k
JOIN checkout_charge c ON c.creator_id = k.id
JOIN checkout_subscription s ON s.id = c.subscription_id
JOIN reconcile_owed o
  ON o.subscription_id = c.subscription_id AND o.period_start = c.period_start
CROSS JOIN LATERAL (VALUES
  (CASE WHEN c.amount < o.amount THEN 'under_charge' WHEN c.amount > o.amount THEN 'surplus' END,
   o.amount, c.amount,
   settlements_difference(o.amount, c.amount) || ': ' || settlements_usd(o.amount)
     || ' was owed for the period from ' || c.period_start || ', ' || settlements_usd(c.amount)
     || ' was billed.'),
  (CASE WHEN c.expected_amount <> o.amount THEN 'expectation' END,
   o.amount, c.expected_amount,
   'The charge keeps ' || settlements_usd(c.expected_amount) || ' USD as what was expected; terms '
     || 'and calendar say ' || settlements_usd(o.amount) || '.'),
  (CASE WHEN c.period_end <> o.period_end OR c.terms_id <> o.terms_id THEN 'period' END,
   0.00, 0.00,
   'The charge covers ' || c.period_start || ' to ' || c.period_end || ' by terms ' || c.terms_id
     || '; the calendar says ' || o.period_start || ' to ' || o.period_end || ' by terms '
     || o.terms_id || '.'),
  (CASE WHEN c.creator_id <> s.creator_id THEN 'creator' END,
   0.00, 0.00,
   'The charge names creator ' || c.creator_id || ', its subscription belongs to '
     || s.creator_id || '.'),
  (CASE WHEN c.currency <> 'USD' THEN 'currency' END,
   0.00, 0.00, 'The charge is in ' || c.currency || ', not in USD.')
) AS x(code, expected, actual, explanation)
WHERE x.code IS NOT NULL
