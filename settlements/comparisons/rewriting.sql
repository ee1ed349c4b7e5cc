-- What a fact said first, before anybody rewrote it: a cent put back there is cleared by evidence. Not
-- of a state or an outcome, which may legally move on from where they were put back.
INSERT INTO settlements_rewriting (source, row, field, was)
SELECT DISTINCT ON (detail ->> 'table', detail ->> 'id', detail ->> 'column')
       detail ->> 'table', detail ->> 'id', detail ->> 'column', coalesce(detail ->> 'was', '')
FROM reconcile_mark
WHERE kind = 'rewritten' AND detail ->> 'column' NOT IN ('', 'state', 'outcome')
ORDER BY detail ->> 'table', detail ->> 'id', detail ->> 'column', first_id
ON CONFLICT (source, row, field) DO NOTHING;
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
           || (m.detail ->> 'id') || ', ' || coalesce(m.detail ->> 'was', 'nothing') || '.'
         ELSE 'A row of ' || (m.detail ->> 'table') || ' was rewritten behind the service: '
           || (m.detail ->> 'column') || ' from ' || coalesce(value.was, 'nothing')
           || ' to ' || coalesce(m.detail ->> 'now', 'nothing') || ' (' || (m.detail ->> 'id')
           || ').' END,
       m.detail || jsonb_build_object('was', value.was)
FROM reconcile_mark m
LEFT JOIN settlements_rewriting first
  ON first.source = m.detail ->> 'table' AND first.row = m.detail ->> 'id'
  AND first.field = m.detail ->> 'column'
LEFT JOIN checkout_charge c ON c.id = (m.detail ->> 'charge')::uuid
LEFT JOIN checkout_creator k ON k.id = m.subject
CROSS JOIN LATERAL (SELECT
  -- Put back is what it says: from the last wrong value to the first one.
  CASE WHEN first.was <> coalesce(m.detail ->> 'now', '') THEN nullif(first.was, '')
       ELSE m.detail ->> 'was' END AS was) value
CROSS JOIN LATERAL (SELECT CASE m.detail ->> 'table'
  WHEN 'checkout_charge' THEN
    CASE WHEN m.detail ->> 'column' = 'state' THEN 'captured' ELSE 'billing' END
  WHEN 'checkout_attempt' THEN 'captured'
  WHEN 'checkout_subscriptionterms' THEN 'billing'
  WHEN 'settlements_statementline' THEN 'statement'
  WHEN 'settlements_statementimport' THEN 'statement'
  WHEN 'settlements_settlement' THEN 'payout'
  WHEN 'settlements_settlementline' THEN 'payout'
  WHEN 'settlements_payoutpart' THEN 'payout'
  WHEN 'settlements_booking' THEN 'payout'
  WHEN 'settlements_bankentry' THEN 'payout'
  WHEN 'settlements_bankstatement' THEN 'payout'
  ELSE 'ledger' END AS kind) named
CROSS JOIN LATERAL (SELECT m.detail ->> 'column' IN (
  'amount', 'expected_amount', 'captured_amount', 'price', 'gross', 'fee', 'net', 'refunds',
  'disputes', 'adjustments', 'reserve', 'fees', 'paid', 'charged', 'unapplied', 'refunded',
  'disputed', 'adjusted', 'opening', 'closing', 'movement', 'debit', 'credit', 'usd',
  'carried_usd', 'clearing', 'cash', 'unapplied_receipts') AS yes) is_money
CROSS JOIN LATERAL (SELECT
  CASE WHEN is_money.yes THEN value.was::numeric END AS was,
  CASE WHEN is_money.yes THEN (m.detail ->> 'now')::numeric END AS now) money
WHERE m.kind = 'rewritten'
  -- A comparison names it: one that found something new of the charge, for what comparisons read.
  AND (starts_with(m.detail ->> 'table', 'settlements')
       OR (m.detail ->> 'table', m.detail ->> 'column') = ('checkout_attempt', 'amount')
       OR NOT EXISTS (
         SELECT 1 FROM reconcile_found f WHERE f.charge_id = c.id AND NOT EXISTS (
           SELECT 1 FROM settlements_discrepancy d
           WHERE d.fingerprint = f.fingerprint AND d.cleared_at IS NULL
             AND (d.expected, d.actual) = (f.expected, f.actual))))
  -- Put back while it stands: it is cleared below, and keeps what it said.
  AND NOT (first.was IS NOT DISTINCT FROM coalesce(m.detail ->> 'now', '')
           AND EXISTS (SELECT 1 FROM settlements_discrepancy d
                       WHERE d.code = 'rewritten' AND d.cleared_at IS NULL
                         AND d.fingerprint = named.kind || ':rewritten:' || (m.detail ->> 'table')
                           || ':' || (m.detail ->> 'id') || ':' || (m.detail ->> 'column')))
ORDER BY fingerprint, m.last_id DESC
ON CONFLICT DO NOTHING
