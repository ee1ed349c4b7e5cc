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
  WHERE d.detail ->> 'table' = 'checkout_ledgerposting' AND t.id = (d.detail ->> 'id')::bigint
  UNION ALL
  SELECT to_jsonb(t) FROM checkout_subscriptionterms t
  WHERE d.detail ->> 'table' = 'checkout_subscriptionterms' AND t.id = (d.detail ->> 'id')::bigint
  UNION ALL
  SELECT to_jsonb(t) FROM settlements_statementline t
  WHERE d.detail ->> 'table' = 'settlements_statementline' AND t.id = (d.detail ->> 'id')::bigint
  UNION ALL
  SELECT to_jsonb(t) FROM settlements_statementimport t
  WHERE d.detail ->> 'table' = 'settlements_statementimport' AND t.id = (d.detail ->> 'id')::bigint
  UNION ALL
  SELECT to_jsonb(t) FROM settlements_settlement t
  WHERE d.detail ->> 'table' = 'settlements_settlement' AND t.id = (d.detail ->> 'id')::uuid
  UNION ALL
  SELECT to_jsonb(t) FROM settlements_settlementline t
  WHERE d.detail ->> 'table' = 'settlements_settlementline' AND t.id = (d.detail ->> 'id')::bigint
  UNION ALL
  SELECT to_jsonb(t) FROM settlements_payoutpart t
  WHERE d.detail ->> 'table' = 'settlements_payoutpart' AND t.id = (d.detail ->> 'id')::bigint
  UNION ALL
  SELECT to_jsonb(t) FROM settlements_booking t
  WHERE d.detail ->> 'table' = 'settlements_booking' AND t.id = (d.detail ->> 'id')::bigint
  UNION ALL
  SELECT to_jsonb(t) FROM settlements_bankentry t
  WHERE d.detail ->> 'table' = 'settlements_bankentry' AND t.id = (d.detail ->> 'id')::bigint
  UNION ALL
  SELECT to_jsonb(t) FROM settlements_bankstatement t
  WHERE d.detail ->> 'table' = 'settlements_bankstatement' AND t.id = (d.detail ->> 'id')::bigint
  UNION ALL
  SELECT to_jsonb(t) FROM settlements_booksclose t
  WHERE d.detail ->> 'table' = 'settlements_booksclose' AND t.id = (d.detail ->> 'id')::bigint
  UNION ALL
  SELECT to_jsonb(t) FROM settlements_carriedover t
  WHERE d.detail ->> 'table' = 'settlements_carriedover' AND t.id = (d.detail ->> 'id')::bigint
) present ON true
LEFT JOIN settlements_rewriting first
  ON first.source = d.detail ->> 'table' AND first.row = d.detail ->> 'id'
  AND first.field = d.detail ->> 'column'
WHERE d.code = 'rewritten' AND d.cleared_at IS NULL
  AND CASE WHEN d.detail ->> 'column' = '' THEN present.row IS NULL
           ELSE coalesce(present.row ->> (d.detail ->> 'column'), '')
             <> coalesce(first.was, d.detail ->> 'was', '') END
