-- Left: terms, price and calendar. Right: the charge's row.
SELECT x.code, c.id::text AS subject, c.creator_id AS key, c.id AS charge_id, c.creator_id, c.lane,
       CASE WHEN x.code IN ('under_charge', 'surplus', 'expectation') THEN o.amount
            ELSE 0.00 END AS expected,
       CASE x.code WHEN 'expectation' THEN c.expected_amount
         WHEN 'under_charge' THEN c.amount WHEN 'surplus' THEN c.amount ELSE 0.00 END AS actual,
       CASE x.code
         WHEN 'expectation' THEN 'The charge keeps ' || settlements_usd(c.expected_amount)
           || ' USD as what was expected; terms and calendar say ' || settlements_usd(o.amount) || '.'
         WHEN 'period' THEN 'The charge covers ' || c.period_start || ' to ' || c.period_end
           || ' by terms ' || c.terms_id || '; the calendar says ' || o.period_start || ' to '
           || o.period_end || ' by terms ' || o.terms_id || '.'
         WHEN 'creator' THEN 'The charge names creator ' || c.creator_id
           || ', its subscription belongs to ' || s.creator_id || '.'
         WHEN 'currency' THEN 'The charge is in ' || c.currency || ', not in USD.'
         ELSE settlements_difference(o.amount, c.amount) || ': ' || settlements_usd(o.amount)
           || ' was owed for the period from ' || c.period_start || ', ' || settlements_usd(c.amount)
           || ' was billed.' END AS explanation
FROM {charges}
JOIN checkout_subscription s ON s.id = c.subscription_id
JOIN reconcile_owed o
  ON o.subscription_id = c.subscription_id AND o.period_start = c.period_start
CROSS JOIN LATERAL (VALUES
  (CASE WHEN c.amount < o.amount THEN 'under_charge' WHEN c.amount > o.amount THEN 'surplus' END),
  (CASE WHEN c.expected_amount <> o.amount THEN 'expectation' END),
  (CASE WHEN c.period_end <> o.period_end OR c.terms_id <> o.terms_id THEN 'period' END),
  (CASE WHEN c.creator_id <> s.creator_id THEN 'creator' END),
  (CASE WHEN c.currency <> 'USD' THEN 'currency' END)
) AS x(code)
WHERE (c.amount <> o.amount OR c.expected_amount <> o.amount OR c.period_end <> o.period_end
       OR c.terms_id <> o.terms_id OR c.creator_id <> s.creator_id OR c.currency <> 'USD')
  AND x.code IS NOT NULL
UNION ALL
-- Left: what was agreed, as the subscription's own event told it. Right: the terms, before any charge
-- is computed from them too. Where charges show it already, it is named there.
SELECT x.code, 'terms:' || t.id, s.creator_id, NULL::uuid, s.creator_id, '', x.expected, x.actual,
       x.explanation
FROM reconcile_creator k
JOIN checkout_subscription s ON s.creator_id = k.id
JOIN checkout_subscriptionterms t ON t.subscription_id = s.id
JOIN LATERAL (
  SELECT e.plan, e.price
  FROM (SELECT o.type, o.event_seq, f.* FROM checkout_outboxmessage o
        CROSS JOIN LATERAL settlements_agreed(o.payload) f
        WHERE o.subject = s.id AND o.door = 'kafka'
          AND o.type IN ('subscription.started', 'subscription.plan_changed')) e
  WHERE CASE e.type WHEN 'subscription.plan_changed' THEN e.starts_on = t.starts_on
        ELSE NOT EXISTS (SELECT 1 FROM checkout_subscriptionterms earlier
                         WHERE earlier.subscription_id = s.id AND earlier.starts_on < t.starts_on) END
  ORDER BY e.event_seq DESC LIMIT 1
) agreed ON true
LEFT JOIN checkout_plan p ON p.code = agreed.plan
CROSS JOIN LATERAL (VALUES
  (CASE WHEN t.price < agreed.price THEN 'under_charge'
        WHEN t.price > agreed.price THEN 'surplus' END,
   agreed.price, t.price,
   settlements_difference(agreed.price, t.price) || ': ' || settlements_usd(agreed.price)
     || ' was agreed from ' || t.starts_on || ', the terms say ' || settlements_usd(t.price) || '.'),
  (CASE WHEN t.plan_id <> agreed.plan
          OR (t.interval, t.interval_count) IS DISTINCT FROM (p.interval, p.interval_count)
        THEN 'period' END,
   0.00, 0.00,
   'The plan ' || agreed.plan || ' was agreed from ' || t.starts_on || '; the terms say ' || t.plan_id
     || ', every ' || t.interval_count || ' ' || t.interval || '.')
) AS x(code, expected, actual, explanation)
WHERE x.code IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM checkout_charge c WHERE c.terms_id = t.id AND c.amount <> t.price)
