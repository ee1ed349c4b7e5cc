-- Left: captured attempts and what is still owed. Right: the books (R34, R36).
WITH looked_at AS (
  SELECT c.* FROM reconcile_creator k JOIN checkout_charge c ON c.creator_id = k.id
)
SELECT x.code, a.id::text AS subject, c.creator_id AS key, c.id AS charge_id, c.creator_id, a.lane,
       a.captured_amount AS expected, coalesce(e.clearing, 0.00) AS actual, x.explanation
FROM looked_at c
JOIN checkout_attempt a ON a.charge_id = c.id AND a.outcome IN ('captured', 'unapplied')
LEFT JOIN LATERAL (
  SELECT n.kind, n.charge_id, (SELECT sum(p.amount) FROM checkout_ledgerposting p
    WHERE p.entry_id = n.id AND p.account = 'clearing' AND p.lane = a.lane) AS clearing
  FROM checkout_ledgerentry n WHERE n.attempt_id = a.id
) e ON true
CROSS JOIN LATERAL (VALUES
  (CASE WHEN e.kind IS NULL THEN 'missing' END,
   settlements_usd(a.captured_amount) || ' USD was captured, but is not in the books.'),
  (CASE WHEN coalesce(e.clearing, 0.00) <> a.captured_amount AND e.kind IS NOT NULL THEN 'amount' END,
   settlements_usd(a.captured_amount) || ' USD was captured, the books say '
     || settlements_usd(coalesce(e.clearing, 0.00)) || '.'),
  (CASE WHEN e.kind <> a.outcome OR e.charge_id <> a.charge_id THEN 'state' END,
   'The attempt ended as ' || a.outcome || ', its entry is ' || e.kind || ' for charge '
     || e.charge_id || '.')
) AS x(code, explanation)
WHERE x.code IS NOT NULL
UNION ALL
SELECT 'extra', e.id::text, c.creator_id, c.id, c.creator_id, '', 0.00,
       coalesce((SELECT sum(p.amount) FROM checkout_ledgerposting p
                 WHERE p.entry_id = e.id AND p.account = 'clearing'), 0.00),
       'The books hold a capture that no attempt of the charge made.'
FROM looked_at c
JOIN checkout_ledgerentry e ON e.charge_id = c.id AND e.kind IN ('captured', 'unapplied')
LEFT JOIN checkout_attempt a ON a.id = e.attempt_id
WHERE a.id IS NULL OR a.outcome NOT IN ('captured', 'unapplied')
UNION ALL
SELECT 'unbalanced', e.id::text, c.creator_id, c.id, c.creator_id, '', 0.00, sums.total,
       'The ' || e.kind || ' entry of the charge has ' || sums.lines || ' postings that sum to '
         || settlements_usd(sums.total) || ' USD, not to 0.00.'
FROM (
  SELECT e.id FROM looked_at c JOIN checkout_ledgerentry e ON e.charge_id = c.id
  UNION
  SELECT p.entry_id FROM looked_at c JOIN checkout_ledgerposting p ON p.charge_id = c.id
) near
JOIN checkout_ledgerentry e ON e.id = near.id
JOIN checkout_charge c ON c.id = e.charge_id
CROSS JOIN LATERAL (
  SELECT coalesce(sum(p.amount), 0.00) AS total, count(*) AS lines
  FROM checkout_ledgerposting p WHERE p.entry_id = e.id
) sums
WHERE sums.total <> 0 OR sums.lines < 2
UNION ALL
SELECT 'receivable', c.id::text, c.creator_id, c.id, c.creator_id, '', right_is.amount,
       books.receivable,
       'By the books ' || settlements_usd(books.receivable) || ' USD is still owed of this '
         || c.state || ' charge; by its captures it is ' || settlements_usd(right_is.amount) || '.'
FROM looked_at c
LEFT JOIN reconcile_owed o
  ON o.subscription_id = c.subscription_id AND o.period_start = c.period_start
CROSS JOIN LATERAL (
  SELECT coalesce(sum(p.amount), 0.00) AS receivable FROM checkout_ledgerposting p
  WHERE p.charge_id = c.id AND p.account = 'receivable'
) books
CROSS JOIN LATERAL (
  SELECT CASE WHEN c.state IN ('voided', 'written_off') THEN 0.00
    ELSE coalesce(o.amount, c.amount) - coalesce((SELECT sum(a.captured_amount)
      FROM checkout_attempt a WHERE a.charge_id = c.id AND a.outcome = 'captured'), 0.00)
    END + coalesce((
      -- What two people approved, and nothing else, moves it further.
      SELECT sum(p.amount) FROM checkout_ledgerentry e
      JOIN checkout_ledgerposting p ON p.entry_id = e.id AND p.account = 'receivable'
      WHERE e.charge_id = c.id AND e.kind = 'corrected' AND EXISTS (
        SELECT 1 FROM settlements_proposalitem i
        JOIN settlements_proposal d ON d.id = i.proposal_id AND d.decision = 'approved'
        WHERE e.id IN (i.entry_id, i.reversal_id)
        UNION ALL
        SELECT 1 FROM settlements_matchedattempt m
        JOIN settlements_proposal d ON d.id = m.proposal_id AND d.decision = 'approved'
        WHERE e.id IN (m.entry_id, m.reversal_id))), 0.00) AS amount
) right_is
WHERE books.receivable <> right_is.amount
