-- Left: captured attempts and what is still owed. Right: the books (R34, R36). The books are read once:
-- every entry of a charge that is looked at, of its captures, or with a posting of it, added up.
WITH looked_at AS MATERIALIZED (
  SELECT c.id, c.creator_id, c.state, c.amount, c.subscription_id, c.period_start
  FROM {charges}
),
captures AS MATERIALIZED (
  SELECT a.id, a.charge_id, a.lane, a.outcome, a.captured_amount
  FROM looked_at c JOIN checkout_attempt a ON a.charge_id = c.id
  WHERE a.outcome IN ('captured', 'unapplied')
),
postings AS MATERIALIZED (
  SELECT p.entry_id, p.charge_id, p.account, p.amount
  FROM looked_at c JOIN checkout_ledgerposting p ON p.charge_id = c.id
),
own AS MATERIALIZED (
  SELECT e.id, e.kind, e.charge_id, e.attempt_id
  FROM looked_at c JOIN checkout_ledgerentry e ON e.charge_id = c.id
),
near AS (
  SELECT * FROM own
  UNION ALL
  -- Of other charges; there are none, unless somebody moved a row.
  (SELECT e.id, e.kind, e.charge_id, e.attempt_id
   FROM captures a JOIN checkout_ledgerentry e ON e.attempt_id = a.id
   WHERE NOT EXISTS (SELECT 1 FROM own WHERE own.id = e.id)
   UNION
   SELECT e.id, e.kind, e.charge_id, e.attempt_id
   FROM postings p JOIN checkout_ledgerentry e ON e.id = p.entry_id
   WHERE NOT EXISTS (SELECT 1 FROM own WHERE own.id = p.entry_id))
),
books AS MATERIALIZED (
  SELECT n.*, coalesce(sums.lines, 0) AS lines, coalesce(sums.total, 0.00) AS total, sums.clearing,
         sums.lane
  FROM near n
  LEFT JOIN (
    SELECT p.entry_id, count(*) AS lines, sum(p.amount) AS total,
           sum(p.amount) FILTER (WHERE p.account = 'clearing') AS clearing,
           -- One posting an account and entry: the lane is the clearing's.
           max(p.lane) FILTER (WHERE p.account = 'clearing') AS lane
    -- Distinct, as they are: else the planner hashes the whole books for a slice of them.
    FROM (SELECT DISTINCT id FROM near) n JOIN checkout_ledgerposting p ON p.entry_id = n.id
    GROUP BY p.entry_id
  ) sums ON sums.entry_id = n.id
),
receivables AS (
  SELECT charge_id, sum(amount) AS amount FROM postings WHERE account = 'receivable' GROUP BY charge_id
),
applied AS (
  SELECT charge_id, sum(captured_amount) AS amount FROM captures WHERE outcome = 'captured'
  GROUP BY charge_id
),
-- What two people approved, and nothing else, moves it further.
approved AS (
  SELECT b.charge_id, sum(p.amount) AS amount
  FROM books b
  JOIN checkout_ledgerposting p ON p.entry_id = b.id AND p.account = 'receivable'
  WHERE b.kind = 'corrected' AND EXISTS (
    SELECT 1 FROM settlements_proposalitem i
    JOIN settlements_proposal d ON d.id = i.proposal_id AND d.decision = 'approved'
    WHERE b.id IN (i.entry_id, i.reversal_id)
    UNION ALL
    SELECT 1 FROM settlements_matchedattempt m
    JOIN settlements_proposal d ON d.id = m.proposal_id AND d.decision = 'approved'
    WHERE b.id IN (m.entry_id, m.reversal_id))
  GROUP BY b.charge_id
),
corrections AS MATERIALIZED (
  SELECT id, charge_id, lane, clearing, total FROM books
  WHERE kind = 'corrected' AND clearing IS NOT NULL
  UNION ALL
  -- Of lines that are nobody's: few, and looked at by every pass.
  SELECT e.id, NULL, max(p.lane), coalesce(sum(p.amount) FILTER (WHERE p.account = 'clearing'), 0.00),
         sum(p.amount)
  FROM checkout_ledgerposting p
  JOIN checkout_ledgerentry e ON e.id = p.entry_id AND e.kind = 'corrected' AND e.charge_id IS NULL
  WHERE p.charge_id IS NULL
  GROUP BY e.id
),
-- What two people approved that they move of a lane, and whether it is still so: not where evidence has
-- cleared since what it corrected, or found it with other amounts. Lines are compared before the books:
-- where they could be, this pass says itself what it found of those that it looked at.
corrected AS (
  SELECT c.*, coalesce(by.amount, 0.00) AS approved, by.lane AS approved_lane, by.discrepancy,
         by.proposal, coalesce(by.is_overtaken, false) AS is_overtaken
  FROM corrections c
  LEFT JOIN LATERAL (
    SELECT CASE c.id WHEN i.entry_id THEN i.actual - i.expected ELSE i.expected - i.actual END AS amount,
           d.lane, d.id AS discrepancy, p.id AS proposal,
           i.reversal_id IS NULL AND NOT (
             d.cleared_at IS NULL AND d.resolved_at IS NOT NULL AND d.proposal_id = p.id
             AND CASE WHEN %(has_lines)s AND EXISTS (SELECT 1 FROM reconcile_line k WHERE k.key = d.key)
               THEN EXISTS (SELECT 1 FROM reconcile_found f WHERE f.fingerprint = d.fingerprint
                            AND (f.expected, f.actual) = (i.expected, i.actual))
               ELSE true END) AS is_overtaken
    FROM settlements_proposalitem i
    JOIN settlements_proposal p ON p.id = i.proposal_id AND p.decision = 'approved'
    JOIN settlements_discrepancy d ON d.id = i.discrepancy_id
    WHERE c.id IN (i.entry_id, i.reversal_id)
    UNION ALL
    SELECT CASE c.id WHEN m.entry_id THEN m.correction ELSE -m.correction END, a.lane, NULL, p.id, false
    FROM settlements_matchedattempt m
    JOIN settlements_proposal p ON p.id = m.proposal_id AND p.decision = 'approved'
    JOIN checkout_attempt a ON a.id = m.attempt_id
    WHERE c.id IN (m.entry_id, m.reversal_id)
  ) by ON true
)
SELECT x.code, a.id::text AS subject, c.creator_id AS key, c.id AS charge_id, c.creator_id, a.lane,
       a.captured_amount AS expected, a.clearing AS actual,
       CASE x.code
         WHEN 'missing' THEN settlements_usd(a.captured_amount) || ' USD was captured, but is not in the books.'
         WHEN 'amount' THEN settlements_usd(a.captured_amount) || ' USD was captured, the books say '
           || settlements_usd(a.clearing) || '.'
         ELSE 'The attempt ended as ' || a.outcome || ', its entry is ' || a.kind || ' for charge '
           || a.entry_charge || '.' END AS explanation
FROM (
  SELECT a.*, b.kind, b.charge_id AS entry_charge,
         coalesce(CASE WHEN b.lane = a.lane THEN b.clearing END, 0.00) AS clearing
  FROM captures a LEFT JOIN books b ON b.attempt_id = a.id
) a
JOIN looked_at c ON c.id = a.charge_id
CROSS JOIN LATERAL (VALUES
  (CASE WHEN a.kind IS NULL THEN 'missing' END),
  (CASE WHEN a.clearing <> a.captured_amount AND a.kind IS NOT NULL THEN 'amount' END),
  (CASE WHEN a.kind <> a.outcome OR a.entry_charge <> a.charge_id THEN 'state' END)
) AS x(code)
WHERE (a.kind IS DISTINCT FROM a.outcome OR a.clearing <> a.captured_amount
       OR a.entry_charge <> a.charge_id)
  AND x.code IS NOT NULL
UNION ALL
SELECT 'extra', b.id::text, c.creator_id, c.id, c.creator_id, '', 0.00,
       coalesce((SELECT sum(p.amount) FROM checkout_ledgerposting p
                 WHERE p.entry_id = b.id AND p.account = 'clearing'), 0.00),
       'The books hold a capture that no attempt of the charge made.'
FROM books b
JOIN looked_at c ON c.id = b.charge_id
LEFT JOIN checkout_attempt a ON a.id = b.attempt_id
WHERE b.kind IN ('captured', 'unapplied')
  AND (a.id IS NULL OR a.outcome NOT IN ('captured', 'unapplied'))
UNION ALL
SELECT 'extra', w.id::text, c.creator_id, c.id, c.creator_id, w.lane,
       CASE WHEN w.is_overtaken THEN 0.00 ELSE w.approved END, w.clearing,
       CASE WHEN w.is_overtaken
         THEN 'Proposal ' || w.proposal || ' corrected what ' || w.lane || ' holds by '
           || settlements_usd(w.clearing) || ' USD, and discrepancy ' || w.discrepancy
           || ' does not stand so any more: open it again, and the entry is posted back.'
         ELSE 'A correction in the books moves ' || settlements_usd(w.clearing) || ' USD of what '
           || w.lane || ' holds; two people approved ' || settlements_usd(w.approved) || '.' END
FROM corrected w
LEFT JOIN looked_at c ON c.id = w.charge_id
WHERE (c.id IS NOT NULL OR w.charge_id IS NULL)
  AND (w.is_overtaken OR w.clearing <> w.approved OR w.lane IS DISTINCT FROM w.approved_lane
       OR w.charge_id IS NULL AND w.total <> 0)
UNION ALL
SELECT 'unbalanced', b.id::text, c.creator_id, c.id, c.creator_id, '', 0.00, b.total,
       'The ' || b.kind || ' entry of the charge has ' || b.lines || ' postings that sum to '
         || settlements_usd(b.total) || ' USD, not to 0.00.'
FROM books b
JOIN checkout_charge c ON c.id = b.charge_id
WHERE b.total <> 0 OR b.lines < 2
UNION ALL
SELECT 'receivable', c.id::text, c.creator_id, c.id, c.creator_id, '', c.right_is, c.receivable,
       'By the books ' || settlements_usd(c.receivable) || ' USD is still owed of this '
         || c.state || ' charge; by its captures it is ' || settlements_usd(c.right_is) || '.'
FROM (
  SELECT c.*, coalesce(r.amount, 0.00) AS receivable,
         CASE WHEN c.state IN ('voided', 'written_off') THEN 0.00
           ELSE coalesce(o.amount, c.amount) - coalesce(a.amount, 0.00) END
         + coalesce(d.amount, 0.00) AS right_is
  FROM looked_at c
  LEFT JOIN reconcile_owed o
    ON o.subscription_id = c.subscription_id AND o.period_start = c.period_start
  LEFT JOIN receivables r ON r.charge_id = c.id
  LEFT JOIN applied a ON a.charge_id = c.id
  LEFT JOIN approved d ON d.charge_id = c.id
) c
WHERE c.receivable <> c.right_is
