-- Rows that were rewritten behind the service and still read so: their discrepancy stays. One that
-- was healed before this pass is recorded by now, and is cleared at once.
DELETE FROM reconcile_found WHERE code = 'rewritten';
INSERT INTO reconcile_found (fingerprint, kind, code, key, expected, actual)
SELECT d.fingerprint, d.kind, d.code, d.key, d.expected, d.actual
FROM settlements_discrepancy d
LEFT JOIN LATERAL (
  SELECT to_jsonb(t) AS row FROM checkout_charge t
  WHERE d.detail ->> 'table' = 'checkout_charge' AND t.id = (d.detail ->> 'id')::uuid
  UNION ALL
  SELECT to_jsonb(t) FROM checkout_attempt t
  WHERE d.detail ->> 'table' = 'checkout_attempt' AND t.id = (d.detail ->> 'id')::uuid
  UNION ALL
  SELECT to_jsonb(t) FROM checkout_ledgerentry t
  WHERE d.detail ->> 'table' = 'checkout_ledgerentry' AND t.id = (d.detail ->> 'id')::uuid
  UNION ALL
  SELECT to_jsonb(t) FROM checkout_ledgerposting t
  WHERE d.detail ->> 'table' = 'checkout_ledgerposting' AND t.id::text = d.detail ->> 'id'
  UNION ALL
  SELECT to_jsonb(t) FROM checkout_subscriptionterms t
  WHERE d.detail ->> 'table' = 'checkout_subscriptionterms' AND t.id::text = d.detail ->> 'id'
  UNION ALL
  SELECT to_jsonb(t) FROM settlements_statementline t
  WHERE d.detail ->> 'table' = 'settlements_statementline' AND t.id::text = d.detail ->> 'id'
) present ON true
WHERE d.code = 'rewritten' AND d.cleared_at IS NULL
  AND CASE WHEN d.detail ->> 'column' = '' THEN present.row IS NULL
           ELSE present.row ->> (d.detail ->> 'column') IS DISTINCT FROM d.detail ->> 'was' END
