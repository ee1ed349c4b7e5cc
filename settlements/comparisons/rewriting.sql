-- Rewritings that the triggers saw and no comparison names: the row may have been healed since.
INSERT INTO reconcile_found
  (fingerprint, kind, code, key, charge_id, creator_id, lane, expected, actual, explanation, detail)
SELECT DISTINCT ON (fingerprint) named.kind || ':rewritten:' || (m.detail ->> 'table') || ':'
         || (m.detail ->> 'id') || ':' || (m.detail ->> 'column') AS fingerprint,
       named.kind, 'rewritten', coalesce(c.creator_id, m.subject), c.id,
       coalesce(c.creator_id, k.id), coalesce(c.lane, ''),
       coalesce(money.was, 0.00), coalesce(money.now, 0.00),
       CASE WHEN m.detail ->> 'column' = ''
         THEN 'A row of ' || (m.detail ->> 'table') || ' was deleted behind the service: '
           || (m.detail ->> 'id') || ', ' || (m.detail ->> 'was') || '.'
         ELSE 'A row of ' || (m.detail ->> 'table') || ' was rewritten behind the service: '
           || (m.detail ->> 'column') || ' from ' || coalesce(m.detail ->> 'was', 'nothing')
           || ' to ' || coalesce(m.detail ->> 'now', 'nothing') || ' (' || (m.detail ->> 'id')
           || ').' END,
       m.detail
FROM reconcile_mark m
LEFT JOIN checkout_charge c ON c.id = (m.detail ->> 'charge')::uuid
LEFT JOIN checkout_creator k ON k.id = m.subject
CROSS JOIN LATERAL (SELECT CASE m.detail ->> 'table'
  WHEN 'checkout_charge' THEN
    CASE WHEN m.detail ->> 'column' = 'state' THEN 'captured' ELSE 'billing' END
  WHEN 'checkout_attempt' THEN 'captured'
  WHEN 'checkout_subscriptionterms' THEN 'billing'
  WHEN 'settlements_statementline' THEN 'statement'
  ELSE 'ledger' END AS kind) named
CROSS JOIN LATERAL (SELECT
  CASE WHEN m.detail ->> 'column' ~ 'amount$|^price$|^gross$|^fee$|^net$'
       THEN (m.detail ->> 'was')::numeric END AS was,
  CASE WHEN m.detail ->> 'column' ~ 'amount$|^price$|^gross$|^fee$|^net$'
       THEN (m.detail ->> 'now')::numeric END AS now) money
WHERE m.kind = 'rewritten'
  AND NOT EXISTS (SELECT 1 FROM reconcile_found f WHERE f.charge_id = c.id)
ORDER BY fingerprint
ON CONFLICT DO NOTHING
