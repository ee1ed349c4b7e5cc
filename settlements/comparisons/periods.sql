-- Left: every period a subscription has reached. Right: exactly one charge each.
SELECT 'missing' AS code, s.id || ':' || o.period_start AS subject, s.creator_id AS key,
       NULL::uuid AS charge_id, s.creator_id, '' AS lane, o.amount AS expected, 0.00 AS actual,
       'No charge for the period ' || o.period_start || ' to ' || o.period_end
         || ' of subscription ' || s.id || ': ' || settlements_usd(o.amount) || ' was owed.'
         AS explanation
FROM reconcile_creator k
JOIN checkout_subscription s ON s.creator_id = k.id
JOIN reconcile_owed o ON o.subscription_id = s.id
WHERE o.begins_at <= %(as_of)s
  -- A closed subscription owes what it was billed up to: its cancel may have come before the bill.
  AND (s.state IN ('active', 'past_due')
       OR o.period_start < s.next_period_start AND o.begins_at < s.closed_at)
  AND NOT EXISTS (SELECT 1 FROM checkout_charge c
                  WHERE c.subscription_id = s.id AND c.period_start = o.period_start)
UNION ALL
SELECT 'extra', c.id::text, c.creator_id, c.id, c.creator_id, c.lane, 0.00, c.amount,
       settlements_usd(c.amount) || ' USD was billed for ' || c.period_start || CASE
         WHEN o.period_start IS NULL THEN ', on which no period of the subscription begins.'
         WHEN o.begins_at > %(business)s THEN ', a period that has not begun.'
         ELSE ', after the subscription was closed.' END
FROM {charges}
JOIN checkout_subscription s ON s.id = c.subscription_id
LEFT JOIN reconcile_owed o
  ON o.subscription_id = c.subscription_id AND o.period_start = c.period_start
WHERE o.period_start IS NULL
   OR o.begins_at > %(business)s
   OR s.state NOT IN ('active', 'past_due') AND o.begins_at > s.closed_at
UNION ALL
SELECT 'next_billing', s.id::text, s.creator_id, NULL, s.creator_id, '', 0.00, 0.00,
       'Subscription ' || s.id || ' is to be billed next for ' || s.next_period_start || ' at '
         || coalesce(to_char(s.next_billing_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'),
                     s.next_billing_at::text) || ' UTC; the '
         || 'calendar says ' || o.period_end || ', when that day begins in ' || s.time_zone || '.'
FROM reconcile_creator k
JOIN checkout_subscription s ON s.creator_id = k.id
JOIN LATERAL (
  SELECT newest.period_end FROM reconcile_owed newest
  JOIN checkout_charge c
    ON c.subscription_id = newest.subscription_id AND c.period_start = newest.period_start
  WHERE newest.subscription_id = s.id
  ORDER BY newest.period_start DESC LIMIT 1
) o ON true
WHERE s.state IN ('active', 'past_due')
  AND (s.next_period_start <> o.period_end
       -- Whole zones differ between releases of the zone database by an hour now and then.
       OR abs(extract(epoch FROM s.next_billing_at
            - settlements_day_start(s.next_period_start, s.time_zone))) > 7200)
