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
