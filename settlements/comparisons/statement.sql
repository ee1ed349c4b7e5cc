-- Left: captures. Right: the lines of accepted files. Lines of one attempt are summed before they
-- meet it, or a join would hide or double them (R41).
WITH zones AS MATERIALIZED (
  SELECT lane, settlements_statement_zone(lane) AS zone FROM settlements_statementterms
),
files AS (
  SELECT id, lane FROM settlements_statementimport WHERE state = 'accepted'
),
attempts AS (
  SELECT a.* FROM reconcile_creator k JOIN checkout_attempt a ON a.creator_id = k.id
),
matches AS MATERIALIZED (
  -- Made by hand, and few: each that something looked at belongs to, while every row of it still reads
  -- as two people approved it. One that changed since is believed no more.
  SELECT p.id, p.count FROM (
    SELECT m.proposal_id AS id FROM reconcile_creator k
    JOIN settlements_matchedattempt m ON m.creator_id = k.id AND m.in_force
    UNION
    SELECT m.proposal_id FROM reconcile_line k
    JOIN settlements_matchedline m ON m.key = k.key AND m.in_force
    UNION
    SELECT m.proposal_id FROM attempts a
    JOIN settlements_matchedline m ON m.key = a.id AND m.in_force
  ) near
  JOIN settlements_proposal p ON p.id = near.id AND p.decision = 'approved'
  WHERE settlements_match_holds(p.id, p.count, p.absolute, p.net)
),
matched_lines AS MATERIALIZED (
  SELECT m.line_id, m.proposal_id FROM matches p
  JOIN settlements_matchedline m ON m.proposal_id = p.id
),
lines AS (
  SELECT s.key, count(*) AS times, sum(s.gross) AS gross, sum(s.fee) AS fee, min(s.lane) AS lane,
         min(s.booked_at) AS booked_at
  FROM (
    SELECT l.key, l.gross, l.fee, f.lane, l.booked_at
    FROM attempts a
    JOIN settlements_statementline l ON l.key = a.id AND l.type = 'charge'
    JOIN files f ON f.id = l.statement_id
    WHERE NOT EXISTS (SELECT 1 FROM matched_lines m WHERE m.line_id = l.id)
    UNION ALL
    -- A match shows its attempts' captures, once. What a processor may keep is agreed for one capture.
    SELECT a.id, a.captured_amount, told.fee, a.lane, told.booked_at
    FROM matches p
    JOIN settlements_matchedattempt m ON m.proposal_id = p.id
    JOIN attempts a ON a.id = m.attempt_id
    CROSS JOIN LATERAL (
      SELECT CASE WHEN p.count = 2 AND min(l.gross) = a.captured_amount THEN min(l.fee) END AS fee,
             min(l.booked_at) AS booked_at
      FROM matched_lines t JOIN settlements_statementline l ON l.id = t.line_id
      WHERE t.proposal_id = p.id
    ) told
  ) s
  GROUP BY s.key
)
SELECT x.code, a.id::text AS subject, a.creator_id AS key, a.charge_id, a.creator_id, a.lane,
       x.expected, x.actual, x.explanation
FROM attempts a
LEFT JOIN lines l ON l.key = a.id
LEFT JOIN zones z ON z.lane = a.lane
LEFT JOIN settlements_statementexpectation covered
  ON covered.lane = a.lane AND covered.state = 'arrived'
  AND covered.day
    = (coalesce(a.booked_at, a.ended_at) AT TIME ZONE coalesce(z.zone, 'UTC'))::date
LEFT JOIN LATERAL (
  SELECT round(a.captured_amount * t.rate + t.fixed, 2) AS fee FROM settlements_feeterms t
  WHERE t.lane = a.lane AND t.valid_from <= (l.booked_at AT TIME ZONE 'UTC')::date
  ORDER BY t.valid_from DESC LIMIT 1
) agreed ON l.times = 1
CROSS JOIN LATERAL (SELECT a.outcome IN ('captured', 'unapplied') AS yes) captured
CROSS JOIN LATERAL (VALUES
  -- R53: missing exists only once an accepted file covers the day.
  (CASE WHEN captured.yes AND l.key IS NULL AND covered.id IS NOT NULL THEN 'missing' END,
   a.captured_amount, 0.00,
   settlements_usd(a.captured_amount) || ' USD was captured, but the statement of ' || a.lane
     || ' for ' || covered.day || ' does not show it.'),
  (CASE WHEN captured.yes AND l.times > 1 THEN 'duplicate' END,
   a.captured_amount, l.gross,
   'The statement shows this capture ' || l.times || ' times: ' || settlements_usd(l.gross)
     || ' instead of ' || settlements_usd(a.captured_amount) || ' USD.'),
  (CASE WHEN captured.yes AND l.times = 1 AND l.gross <> a.captured_amount THEN 'amount' END,
   a.captured_amount, l.gross,
   settlements_difference(a.captured_amount, l.gross) || ' in the statement: '
     || settlements_usd(a.captured_amount) || ' was captured, the line says '
     || settlements_usd(l.gross) || '.'),
  (CASE WHEN captured.yes AND l.lane <> a.lane THEN 'lane' END,
   a.captured_amount, l.gross,
   'The capture was made through ' || a.lane || ', the statement of ' || l.lane || ' shows it.'),
  (CASE WHEN captured.yes AND agreed.fee <> l.fee AND l.gross = a.captured_amount THEN 'fee' END,
   agreed.fee, l.fee,
   'The processor kept ' || settlements_usd(l.fee) || ' USD of this capture; agreed are '
     || settlements_usd(agreed.fee) || '.'),
  -- An open attempt first goes to the resolver; it is no discrepancy while nobody knows.
  (CASE WHEN NOT captured.yes AND a.outcome <> 'open' AND l.key IS NOT NULL THEN 'not_captured' END,
   0.00, l.gross,
   'The statement shows a capture of ' || settlements_usd(l.gross) || ' USD for an attempt that '
     || 'ended as ' || a.outcome || '.')
) AS x(code, expected, actual, explanation)
WHERE x.code IS NOT NULL
UNION ALL
SELECT 'unmatched', l.id::text, l.key, NULL, NULL, f.lane, 0.00, l.gross,
       'Line ' || l.number || ' (' || l.line_id || ', ' || l.type || ' of '
         || settlements_usd(l.gross) || ' USD) of the statement of ' || f.lane
         || ' fits nothing that is known here.'
FROM reconcile_line k
JOIN settlements_statementline l ON l.key = k.key
JOIN files f ON f.id = l.statement_id
WHERE l.type IN ('refund', 'dispute', 'dispute_fee', 'reversal')
   OR l.type = 'charge' AND NOT EXISTS (SELECT 1 FROM checkout_attempt a WHERE a.id = l.key)
     AND NOT EXISTS (SELECT 1 FROM matched_lines m WHERE m.line_id = l.id)
UNION ALL
SELECT CASE WHEN d.state = 'quarantined' THEN 'quarantined_file' ELSE 'late_file' END,
       d.lane || ':' || d.day, NULL, NULL, NULL, d.lane, 0.00, 0.00,
       CASE WHEN d.state = 'quarantined'
         THEN 'The statement of ' || d.lane || ' for ' || d.day || ' is set aside: ' || f.reason
         ELSE 'The statement of ' || d.lane || ' for ' || d.day || ' was due '
           || to_char(d.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
           || ' UTC and has not arrived.' END
FROM settlements_statementexpectation d
LEFT JOIN settlements_statementimport f ON f.id = d.statement_id
WHERE d.state = 'quarantined' OR d.state <> 'arrived' AND d.due_at <= %(business)s
UNION ALL
-- Stands until its file is taken away or replaced by one that can be read.
SELECT 'unreadable_file', 'file:' || f.id, NULL, NULL, NULL, '', 0.00, 0.00,
       'The file ' || f.path || ' cannot be read: ' || f.reason
FROM settlements_statementfile f
WHERE f.state = 'refused'
UNION ALL
-- Until the same statement, or one of the same days, is accepted.
SELECT 'quarantined_file', 'bank:' || b.id, NULL, NULL, NULL, '', 0.00, 0.00,
       'The bank statement ' || b.statement_id || ' of ' || b.account || ' to ' || b.last_day
         || ' is set aside: ' || b.reason
FROM settlements_bankstatement b
WHERE b.state = 'quarantined' AND NOT EXISTS (
  SELECT 1 FROM settlements_bankstatement a
  WHERE a.account = b.account AND a.state = 'accepted'
    AND (a.statement_id = b.statement_id OR a.last_day = b.last_day))
