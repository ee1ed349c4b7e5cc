-- Left: what a payout's lines come to. Right: what its payout line says has left, and the bank's credit.
WITH payouts AS (
  SELECT p.*, paid.credits, paid.credited,
         p.lane || ' ' || p.reference AS named
  FROM settlements_payout p
  CROSS JOIN LATERAL (
    SELECT count(*) AS credits, sum(e.net) AS credited
    FROM settlements_payoutcredit c JOIN settlements_bankentry e ON e.id = c.entry_id
    WHERE c.payout_id = p.id
  ) paid
  WHERE p.value_on IS NOT NULL
), known AS (
  SELECT max(last_day) AS until FROM settlements_bankstatement WHERE state = 'accepted'
)
SELECT x.code, p.id || x.side AS subject, NULL::uuid AS key, NULL::uuid AS charge_id,
       NULL::uuid AS creator_id, p.lane, x.expected, x.actual, x.explanation
FROM payouts p CROSS JOIN known
CROSS JOIN LATERAL (VALUES
  -- A processor may name a payout on its own line alone; its lines then say nothing of it.
  (CASE WHEN p.line_count > 0 AND p.paid <> p.net THEN 'amount' END, '', p.net, p.paid,
   settlements_too(p.net, p.paid) || ' in the payout ' || p.named || ': its '
     || p.line_count || ' lines come to ' || settlements_usd(p.net) || ', '
     || settlements_usd(p.paid) || ' left.'),
  (CASE WHEN p.credits = 1 AND p.credited <> p.paid THEN 'amount' END, ':bank', p.paid, p.credited,
   settlements_too(p.paid, p.credited) || ' at the bank: of the payout ' || p.named || ' '
     || settlements_usd(p.paid) || ' left, ' || settlements_usd(p.credited) || ' was credited.'),
  (CASE WHEN p.credits > 1 THEN 'duplicate' END, ':bank', p.paid, p.credited,
   'The bank shows the payout ' || p.named || ' ' || p.credits || ' times: '
     || settlements_usd(p.credited) || ' instead of ' || settlements_usd(p.paid) || ' USD.'),
  -- As R53: only once an accepted statement of the bank reaches well past its value date.
  (CASE WHEN p.credits = 0 AND p.paid <> 0 AND known.until >= p.value_on + 5 THEN 'missing' END,
   ':bank', p.paid, 0.00,
   'The payout ' || p.named || ' of ' || settlements_usd(p.paid) || ' USD left on ' || p.value_on
     || ', but the bank''s statements up to ' || known.until || ' do not show it.')
) AS x(code, side, expected, actual, explanation)
WHERE x.code IS NOT NULL
UNION ALL
-- What never comes shows nothing as missing: ten days without a statement of the bank are named.
SELECT 'missing', 'bank', NULL, NULL, NULL, '', 0.00, 0.00,
       'The bank''s statements end on ' || min(known.until) || ': ' || count(*)
         || CASE WHEN count(*) = 1 THEN ' payout of ' ELSE ' payouts of ' END
         || settlements_usd(sum(p.paid)) || ' USD that left since cannot be held against them.'
FROM payouts p CROSS JOIN known
WHERE p.credits = 0 AND p.paid <> 0 AND known.until < p.value_on + 5
  AND (%(business)s AT TIME ZONE 'UTC')::date > greatest(known.until, p.value_on) + 10
HAVING count(*) > 0
UNION ALL
-- A payout line without a name is in no payout: what left stays in clearing, and no credit can be its own.
SELECT 'unmatched', 'line:' || l.id, NULL, NULL, NULL, f.lane, 0.00, -l.net,
       'Line ' || l.number || ' (' || l.line_id || ') of the file ' || f.file_name || ' says that '
         || settlements_usd(-l.net) || ' USD left ' || f.lane
         || ', and names no payout: it stays in clearing, and no credit of the bank is held against it.'
FROM settlements_statementline l
JOIN settlements_statementimport f ON f.id = l.statement_id AND f.state = 'accepted'
WHERE l.type = 'payout' AND l.payout = ''
UNION ALL
-- Left: what the files added to a payout, one by one. Right: the sums that the payout keeps.
SELECT 'amount', p.id || ':parts:' || x.name, NULL, NULL, NULL, p.lane, x.summed, x.kept,
       settlements_too(x.summed, x.kept) || ' as the ' || x.name || ' of the payout ' || p.lane || ' '
         || p.reference || ': its files come to ' || settlements_usd(x.summed) || ', it says '
         || settlements_usd(x.kept) || '.'
FROM settlements_payout p
CROSS JOIN LATERAL (
  SELECT coalesce(sum(gross), 0) AS gross, coalesce(sum(refunds), 0) AS refunds,
         coalesce(sum(disputes), 0) AS disputes, coalesce(sum(adjustments), 0) AS adjustments,
         coalesce(sum(reserve), 0) AS reserve, coalesce(sum(fees), 0) AS fees,
         coalesce(sum(net), 0) AS net, coalesce(sum(paid), 0) AS paid
  FROM settlements_payoutpart WHERE payout_id = p.id
) parts
CROSS JOIN LATERAL (VALUES
  ('gross', parts.gross, p.gross), ('refunds', parts.refunds, p.refunds),
  ('disputes', parts.disputes, p.disputes), ('adjustments', parts.adjustments, p.adjustments),
  ('reserve', parts.reserve, p.reserve), ('fees', parts.fees, p.fees), ('net', parts.net, p.net),
  ('paid', parts.paid, p.paid)
) AS x(name, summed, kept)
WHERE x.summed <> x.kept
UNION ALL
-- Left: the lines of a creator's settlement. Right: the totals that it keeps.
SELECT 'amount', 'settlement:' || s.id || ':' || x.name, s.creator_id, NULL, s.creator_id, '',
       x.summed, x.kept,
       settlements_too(x.summed, x.kept) || ' as ' || x.name || ' in the settlement of '
         || s.period_start || ' to ' || s.period_end || ': its lines come to '
         || settlements_usd(x.summed) || ', it says ' || settlements_usd(x.kept) || '.'
FROM reconcile_creator k
JOIN settlements_settlement s ON s.creator_id = k.id
CROSS JOIN LATERAL (
  SELECT coalesce(sum(amount) FILTER (WHERE kind = 'charge'), 0) AS charged,
         coalesce(sum(amount) FILTER (WHERE kind = 'unapplied'), 0) AS unapplied,
         coalesce(sum(amount) FILTER (WHERE kind = 'refund'), 0) AS refunded,
         coalesce(sum(amount) FILTER (WHERE kind IN ('dispute', 'reversal')), 0) AS disputed,
         coalesce(sum(amount) FILTER (WHERE kind = 'fee'), 0) AS fees,
         coalesce(sum(amount) FILTER (WHERE kind = 'adjustment'), 0) AS adjusted,
         coalesce(sum(amount), 0) AS net
  FROM settlements_settlementline WHERE settlement_id = s.id
) lines
CROSS JOIN LATERAL (VALUES
  ('charged', lines.charged, s.charged), ('unapplied', lines.unapplied, s.unapplied),
  ('refunded', lines.refunded, s.refunded), ('disputed', lines.disputed, s.disputed),
  ('fees', lines.fees, s.fees), ('adjusted', lines.adjusted, s.adjusted), ('net', lines.net, s.net)
) AS x(name, summed, kept)
WHERE x.summed <> x.kept
UNION ALL
-- Left: what files, credits and landed payouts moved. Right: the entries of the books that are no charge's.
SELECT 'amount', entry || ':' || account, NULL, NULL, NULL, lane, moved, posted,
       'In the books ' || settlements_usd(posted) || ' USD is posted to ' || account
         || ' for ' || coalesce(what, 'no file or payout that we know') || ', which moved '
         || settlements_usd(moved) || ' (entry ' || entry || ').'
FROM (
  SELECT coalesce(b.entry_id, p.entry_id) AS entry, coalesce(b.account, p.account) AS account,
         coalesce(b.lane, p.lane, '') AS lane, b.what,
         coalesce(b.amount, 0.00) AS moved, coalesce(p.amount, 0.00) AS posted,
         p.account = 'clearing' AND p.lane <> b.lane AS is_elsewhere
  FROM (
    SELECT b.entry_id, x.account, x.amount, coalesce(f.lane, o.lane) AS lane,
           coalesce('the file ' || f.file_name, 'the payout ' || o.reference) AS what
    FROM settlements_booking b
    LEFT JOIN settlements_statementimport f ON f.id = b.statement_id
    LEFT JOIN settlements_payoutcredit c ON c.id = b.credit_id
    LEFT JOIN settlements_payout o ON o.id = coalesce(b.payout_id, c.payout_id)
    CROSS JOIN LATERAL (VALUES
      ('clearing', b.clearing), ('cash', b.cash), ('fees', b.fees), ('refunds', b.refunds),
      ('disputes', b.disputes), ('adjustments', b.adjustments),
      ('unapplied_receipts', b.unapplied_receipts)
    ) AS x(account, amount)
    WHERE x.amount <> 0
  ) b
  FULL JOIN (
    -- What corrects a line of nobody is held against its proposal, with the books.
    -- Named by what is left out, which is few: to join the others would read all entries there are.
    SELECT p.entry_id, p.account, p.lane, p.amount FROM checkout_ledgerposting p
    WHERE p.charge_id IS NULL AND NOT EXISTS (
      SELECT 1 FROM checkout_ledgerentry e
      WHERE e.id = p.entry_id AND e.kind = 'corrected' AND e.charge_id IS NULL)
  ) p ON p.entry_id = b.entry_id AND p.account = b.account
) held
WHERE moved <> posted OR is_elsewhere
UNION ALL
-- Left: refunds of captures that no charge could take, since an hour ago. Right: what was booked as given
-- back of their file.
SELECT 'amount', 'file:' || f.id || ':given_back', NULL, NULL, NULL, f.lane, given.back, booked.back,
       'Refunds of the file ' || f.file_name || ' give back ' || settlements_usd(given.back)
         || ' USD of captures that no charge could take, the books say ' || settlements_usd(booked.back)
         || ': ' || settlements_usd(given.back - booked.back)
         || ' belong to unapplied receipts, against refunds.'
FROM (
  SELECT l.statement_id, -sum(l.gross) AS back
  FROM checkout_attempt a
  CROSS JOIN LATERAL (
    SELECT statement_id, gross FROM settlements_statementline
    WHERE settlements_named_attempt(reference) = a.id AND type = 'refund'
    -- Looked up one by one: the planner takes each for 500 lines, and would read every refund.
    OFFSET 0
  ) l
  WHERE a.outcome = 'unapplied'
  GROUP BY 1
  HAVING max(a.ended_at) < %(now)s::timestamptz - interval '1 hour'
) given
JOIN settlements_statementimport f ON f.id = given.statement_id
CROSS JOIN LATERAL (
  SELECT sum(b.unapplied_receipts) AS back FROM settlements_booking b WHERE b.statement_id = f.id
) booked
WHERE given.back <> booked.back
UNION ALL
-- Left: what the bank credited, each by itself. Right: what was booked of it.
SELECT 'amount', p.id || ':booked:' || c.id, NULL, NULL, NULL, p.lane, e.net, b.cash,
       'The bank credited ' || settlements_usd(e.net) || ' USD for the payout ' || p.lane || ' '
         || p.reference || ', the books say ' || settlements_usd(b.cash) || '.'
FROM settlements_payoutcredit c
JOIN settlements_payout p ON p.id = c.payout_id
JOIN settlements_bankentry e ON e.id = c.entry_id
JOIN settlements_booking b ON b.credit_id = c.id
WHERE b.cash <> e.net
UNION ALL
-- Left: what the bank kept of a payout that landed. Right: what was booked of it.
SELECT 'amount', p.id || ':booked', NULL, NULL, NULL, p.lane, p.kept, b.fees,
       'The bank kept ' || settlements_usd(p.kept) || ' USD of the payout ' || p.lane || ' '
         || p.reference || ', the books say ' || settlements_usd(b.fees) || '.'
FROM settlements_payout p JOIN settlements_booking b ON b.payout_id = p.id
WHERE b.fees <> p.kept
UNION ALL
-- Booked within seconds: an hour after it was known nobody is about to.
SELECT 'missing', 'file:' || f.id || ':booked', NULL, NULL, NULL, f.lane, 0.00, 0.00,
       'What the file ' || f.file_name || ' states beside captures is not in the books.'
FROM settlements_gatheredstatement g JOIN settlements_statementimport f ON f.id = g.statement_id
WHERE f.accepted_at < %(now)s::timestamptz - interval '1 hour'
  AND NOT EXISTS (SELECT 1 FROM settlements_booking b WHERE b.statement_id = f.id)
UNION ALL
SELECT 'missing', p.id || ':booked:' || c.id, NULL, NULL, NULL, p.lane, e.net, 0.00,
       'The bank credited ' || settlements_usd(e.net) || ' USD for the payout ' || p.lane || ' '
         || p.reference || ' on ' || coalesce(e.value_on, e.booked_on) || ', and it is not in the books.'
FROM settlements_payoutcredit c
JOIN settlements_payout p ON p.id = c.payout_id
JOIN settlements_bankentry e ON e.id = c.entry_id
JOIN settlements_bankstatement s ON s.id = e.statement_id
WHERE s.accepted_at < %(now)s::timestamptz - interval '1 hour'
  AND NOT EXISTS (SELECT 1 FROM settlements_booking b WHERE b.credit_id = c.id)
UNION ALL
SELECT 'missing', p.id || ':booked', NULL, NULL, NULL, p.lane, p.kept, 0.00,
       'Of the payout ' || p.lane || ' ' || p.reference || ', which landed on ' || p.landed_on
         || ', the bank kept ' || settlements_usd(p.kept) || ' USD, and it is not in the books.'
FROM settlements_payout p
WHERE p.kept <> 0
  AND NOT EXISTS (SELECT 1 FROM settlements_booking b WHERE b.payout_id = p.id)
  AND EXISTS (
    SELECT 1 FROM settlements_payoutcredit c JOIN settlements_bankentry e ON e.id = c.entry_id
    JOIN settlements_bankstatement s ON s.id = e.statement_id
    WHERE c.payout_id = p.id AND s.accepted_at < %(now)s::timestamptz - interval '1 hour')
