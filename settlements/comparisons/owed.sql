-- The calendar's own opinion, once a pass: every period of the subscriptions looked at, up to the
-- day of `as_of` in their own zone, or their newest charge if that is later.
INSERT INTO reconcile_owed
SELECT s.id, s.creator_id, p.terms_id, p.period_start, p.period_end, p.amount,
       settlements_day_start(p.period_start, s.time_zone)
FROM (
  SELECT u.id FROM reconcile_creator k JOIN checkout_subscription u ON u.creator_id = k.id
  UNION
  SELECT c.subscription_id FROM reconcile_creator k JOIN checkout_charge c ON c.creator_id = k.id
) looked_at
JOIN checkout_subscription s ON s.id = looked_at.id
CROSS JOIN LATERAL (
  SELECT greatest(settlements_local_day(%(as_of)s, s.time_zone), max(c.period_start)) AS until
  FROM checkout_charge c WHERE c.subscription_id = s.id
) newest
CROSS JOIN LATERAL settlements_periods(s.id, newest.until) p
ON CONFLICT DO NOTHING;
