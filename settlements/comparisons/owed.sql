-- The calendar's own opinion, once a pass. Of the creators' subscriptions every period up to the day of
-- `as_of` in their own zone, or their newest charge if that is later; of any other, the charges' own.
INSERT INTO reconcile_owed
SELECT s.id, s.creator_id, p.terms_id, p.period_start, p.period_end, p.amount,
       settlements_day_start(p.period_start, s.time_zone)
FROM reconcile_creator k
JOIN checkout_subscription s ON s.creator_id = k.id
CROSS JOIN LATERAL (
  SELECT greatest(settlements_local_day(%(as_of)s, s.time_zone), max(c.period_start)) AS until
  FROM checkout_charge c WHERE c.subscription_id = s.id
) newest
CROSS JOIN LATERAL settlements_periods(s.id, newest.until) p
ON CONFLICT DO NOTHING;
INSERT INTO reconcile_owed
SELECT s.id, s.creator_id, p.terms_id, p.period_start, p.period_end, p.amount,
       settlements_day_start(p.period_start, s.time_zone)
FROM {charges}
JOIN checkout_subscription s ON s.id = c.subscription_id
CROSS JOIN LATERAL settlements_periods(s.id, c.period_start, c.period_start) p
WHERE NOT EXISTS (SELECT 1 FROM reconcile_creator own WHERE own.id = s.creator_id)
ON CONFLICT DO NOTHING;
