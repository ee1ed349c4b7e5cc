-- Left: captures. Right: the lines of accepted files. Lines of one attempt are summed before they
-- meet it, or a join would hide or double them (R41). Sentences are written for what differs alone.
WITH zones AS MATERIALIZED (
  SELECT lane, settlements_statement_zone(lane) AS zone FROM settlements_statementterms
),
terms AS MATERIALIZED (
  SELECT lane, rate, fixed, valid_from,
         lead(valid_from) OVER (PARTITION BY lane ORDER BY valid_from) AS valid_to
  FROM settlements_feeterms
),
files AS (
  SELECT id, lane FROM settlements_statementimport WHERE state = 'accepted'
),
looked_at AS MATERIALIZED (
  SELECT a.id, a.creator_id, a.charge_id, a.lane, a.outcome, a.captured_amount,
         coalesce(a.booked_at, a.ended_at) AS happened_at
  FROM reconcile_line k JOIN checkout_attempt a ON a.id = k.key
),
stated AS (
  SELECT d.*, nullif(s.times, 0) AS times, s.gross, s.fee, s.stated_lane, s.booked_at
  FROM looked_at d
  CROSS JOIN LATERAL (
    SELECT count(*) AS times, sum(l.gross) AS gross, sum(l.fee) AS fee, min(f.lane) AS stated_lane,
           min(l.booked_at) AS booked_at
    FROM settlements_statementline l JOIN files f ON f.id = l.statement_id
    WHERE l.key = d.id AND l.type = 'charge'
  ) s
),
matches AS MATERIALIZED (
  -- Made by hand, and few: each that something looked at belongs to, while every row of it still reads
  -- as two people approved it. One that changed since is believed no more.
  SELECT id, count FROM (
    SELECT p.* FROM (
      SELECT m.proposal_id AS id FROM reconcile_line k
      JOIN settlements_matchedattempt m ON m.attempt_id = k.key AND m.in_force
      UNION
      SELECT m.proposal_id FROM reconcile_line k
      JOIN settlements_matchedline m ON m.key = k.key AND m.in_force
    ) near
    JOIN settlements_proposal p ON p.id = near.id AND p.decision = 'approved'
    -- These are judged, never every proposal there is.
    OFFSET 0
  ) approved
  WHERE settlements_match_holds(id, count, absolute, net)
),
matched_lines AS MATERIALIZED (
  SELECT m.line_id, m.proposal_id, m.key FROM matches p
  JOIN settlements_matchedline m ON m.proposal_id = p.id
),
-- The attempts that a match concerns: their lines are not simply those that name them.
by_hand AS MATERIALIZED (
  SELECT t.id, nullif(count(s.lane), 0) AS times, sum(s.gross) AS gross, sum(s.fee) AS fee,
         min(s.lane) AS stated_lane, min(s.booked_at) AS booked_at
  FROM (
    SELECT key AS id FROM matched_lines
    UNION SELECT m.attempt_id FROM matches p
    JOIN settlements_matchedattempt m ON m.proposal_id = p.id
  ) t
  LEFT JOIN LATERAL (
    SELECT l.gross, l.fee, f.lane, l.booked_at
    FROM settlements_statementline l JOIN files f ON f.id = l.statement_id
    WHERE l.key = t.id AND l.type = 'charge'
      AND NOT EXISTS (SELECT 1 FROM matched_lines m WHERE m.line_id = l.id)
    UNION ALL
    -- A match shows its attempts' captures, once. What a processor may keep is agreed for one capture.
    SELECT a.captured_amount, told.fee, a.lane, told.booked_at
    FROM matches p
    JOIN settlements_matchedattempt m ON m.proposal_id = p.id AND m.attempt_id = t.id
    JOIN checkout_attempt a ON a.id = m.attempt_id
    CROSS JOIN LATERAL (
      SELECT CASE WHEN p.count = 2 AND min(l.gross) = a.captured_amount THEN min(l.fee) END AS fee,
             min(l.booked_at) AS booked_at
      FROM matched_lines t JOIN settlements_statementline l ON l.id = t.line_id
      WHERE t.proposal_id = p.id
    ) told
  ) s ON true
  GROUP BY t.id
),
shown AS (
  SELECT s.* FROM stated s WHERE NOT EXISTS (SELECT 1 FROM by_hand h WHERE h.id = s.id)
  UNION ALL
  SELECT d.*, h.times, h.gross, h.fee, h.stated_lane, h.booked_at
  FROM by_hand h JOIN looked_at d ON d.id = h.id
),
compared AS (
  SELECT s.*, covered.day AS covered_day, round(s.captured_amount * t.rate + t.fixed, 2) AS agreed,
         s.outcome IN ('captured', 'unapplied') AS is_captured
  FROM shown s
  LEFT JOIN zones z ON z.lane = s.lane
  LEFT JOIN settlements_statementexpectation covered
    ON covered.lane = s.lane AND covered.state = 'arrived'
    AND covered.day = (s.happened_at AT TIME ZONE coalesce(z.zone, 'UTC'))::date
  LEFT JOIN terms t ON s.times = 1 AND t.lane = s.lane
    AND t.valid_from <= (s.booked_at AT TIME ZONE coalesce(z.zone, 'UTC'))::date
    AND coalesce(t.valid_to > (s.booked_at AT TIME ZONE coalesce(z.zone, 'UTC'))::date, true)
)
SELECT x.code, c.id::text AS subject, c.id AS key, c.charge_id, c.creator_id, c.lane,
       CASE x.code WHEN 'fee' THEN c.agreed WHEN 'not_captured' THEN 0.00
                   ELSE c.captured_amount END AS expected,
       CASE x.code WHEN 'fee' THEN c.fee WHEN 'missing' THEN 0.00 ELSE c.gross END AS actual,
       CASE x.code
         WHEN 'missing' THEN settlements_usd(c.captured_amount) || ' USD was captured, but the statement of '
           || c.lane || ' for ' || c.covered_day || ' does not show it.'
         WHEN 'duplicate' THEN 'The statement shows this capture ' || c.times || ' times: '
           || settlements_usd(c.gross) || ' instead of ' || settlements_usd(c.captured_amount) || ' USD.'
         WHEN 'amount' THEN settlements_difference(c.captured_amount, c.gross) || ' in the statement: '
           || settlements_usd(c.captured_amount) || ' was captured, the line says '
           || settlements_usd(c.gross) || '.'
         WHEN 'lane' THEN 'The capture was made through ' || c.lane || ', the statement of '
           || c.stated_lane || ' shows it.'
         WHEN 'fee' THEN 'The processor kept ' || settlements_usd(c.fee)
           || ' USD of this capture; agreed are ' || settlements_usd(c.agreed) || '.'
         ELSE 'The statement shows a capture of ' || settlements_usd(c.gross)
           || ' USD for an attempt that ended as ' || c.outcome || '.' END AS explanation
FROM compared c
CROSS JOIN LATERAL (VALUES
  -- R53: missing exists only once an accepted file covers the day.
  (CASE WHEN c.is_captured AND c.times IS NULL AND c.covered_day IS NOT NULL THEN 'missing' END),
  (CASE WHEN c.is_captured AND c.times > 1 THEN 'duplicate' END),
  (CASE WHEN c.is_captured AND c.times = 1 AND c.gross <> c.captured_amount THEN 'amount' END),
  (CASE WHEN c.is_captured AND c.stated_lane <> c.lane THEN 'lane' END),
  (CASE WHEN c.is_captured AND c.agreed <> c.fee AND c.gross = c.captured_amount THEN 'fee' END),
  -- An open attempt first goes to the resolver; it is no discrepancy while nobody knows.
  (CASE WHEN NOT c.is_captured AND c.outcome <> 'open' AND c.times IS NOT NULL
        THEN 'not_captured' END)
) AS x(code)
-- What agrees in every way is most of them, and is left out before the list above is made of it.
WHERE (c.times IS DISTINCT FROM 1 OR c.gross IS DISTINCT FROM c.captured_amount
       OR c.stated_lane <> c.lane OR c.agreed <> c.fee OR NOT c.is_captured)
  AND x.code IS NOT NULL
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
-- Another file of days that an earlier one covers, unless it says the same: two people look at it. Which
-- came first decides, not which was accepted first: both may have waited for the file before them.
SELECT 'quarantined_file', 'import:' || f.id, NULL, NULL, NULL, f.lane, 0.00, 0.00,
       'The statement of ' || f.lane || ' for ' || f.first_day || ' to ' || f.last_day || ' ('
         || f.file_name || ') is set aside, and another file covers its days: ' || f.reason
FROM settlements_statementimport f
WHERE f.state = 'quarantined' AND EXISTS (
  SELECT 1 FROM settlements_statementimport a
  WHERE a.lane = f.lane AND a.state = 'accepted' AND a.id < f.id
    AND a.first_day <= f.last_day AND a.last_day >= f.first_day
) AND NOT EXISTS (
  -- A day of it that nothing covers is named above.
  SELECT 1 FROM settlements_statementexpectation d WHERE d.statement_id = f.id
) AND NOT EXISTS (
  SELECT 1 FROM settlements_statementimport a
  WHERE a.lane = f.lane AND a.state = 'accepted'
    AND (a.first_day, a.last_day, a.opening, a.closing, a.movement, a.line_count)
      = (f.first_day, f.last_day, f.opening, f.closing, f.movement, f.line_count))
UNION ALL
-- A bank's, as a processor's; one that came and was set aside is named below.
SELECT 'late_file', 'bank:' || e.account || ':' || e.day, NULL, NULL, NULL, '', 0.00, 0.00,
       'The bank''s statement of ' || e.account || ' for ' || e.day || ' was due '
         || to_char(e.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC and has not arrived.'
FROM settlements_bankexpectation e
WHERE e.state IN ('expected', 'late') AND e.due_at <= %(business)s
UNION ALL
-- Stands until its file is taken away or replaced by one that can be read.
SELECT 'unreadable_file', 'file:' || f.id, NULL, NULL, NULL, '', 0.00, 0.00,
       'The file ' || f.path || ' cannot be read: ' || f.reason
FROM settlements_statementfile f
WHERE f.state = 'refused'
UNION ALL
-- Until the same statement, or one of the same day, that came later is accepted; one that only says
-- again what was accepted is no news.
SELECT 'quarantined_file', 'bank:' || b.id, NULL, NULL, NULL, '', 0.00, 0.00,
       'The bank statement ' || b.statement_id || ' of ' || b.account || ' to ' || b.last_day
         || ' is set aside: ' || b.reason
FROM settlements_bankstatement b
WHERE b.state = 'quarantined' AND NOT EXISTS (
  SELECT 1 FROM settlements_bankstatement a
  WHERE a.account = b.account AND a.state = 'accepted'
    AND (a.statement_id = b.statement_id OR a.last_day = b.last_day)
    AND (a.id > b.id OR (a.first_day, a.last_day, a.opening, a.closing, a.movement, a.entry_count)
      = (b.first_day, b.last_day, b.opening, b.closing, b.movement, b.entry_count)))
