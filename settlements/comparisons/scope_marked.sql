-- What the marks name, and what only the passing of time makes worth another look.
INSERT INTO reconcile_line
SELECT subject FROM reconcile_mark WHERE kind = 'line' AND subject IS NOT NULL
UNION
SELECT l.key FROM reconcile_mark m
JOIN settlements_statementline l ON l.statement_id = (m.detail ->> 'statement')::bigint
WHERE m.kind = 'statement'
UNION
-- A line nobody knew, whose attempt has turned up since.
SELECT d.key FROM settlements_discrepancy d JOIN checkout_attempt a ON a.id = d.key
WHERE d.kind = 'statement' AND d.code = 'unmatched' AND d.cleared_at IS NULL;

INSERT INTO reconcile_creator
SELECT subject FROM reconcile_mark WHERE kind IN ('creator', 'rewritten') AND subject IS NOT NULL
UNION
SELECT c.creator_id FROM reconcile_mark m JOIN checkout_charge c ON c.id = m.subject
WHERE m.kind = 'charge'
UNION
SELECT a.creator_id FROM reconcile_line l JOIN checkout_attempt a ON a.id = l.key
UNION
SELECT a.creator_id FROM reconcile_mark m
CROSS JOIN LATERAL (SELECT settlements_statement_zone(m.detail ->> 'lane') AS name) zone
JOIN checkout_attempt a ON a.lane = m.detail ->> 'lane'
  AND a.booked_at >= (m.detail ->> 'first')::date::timestamp AT TIME ZONE zone.name
  AND (m.detail ->> 'last' = 'infinity'
       OR a.booked_at < ((m.detail ->> 'last')::date + 1)::timestamp AT TIME ZONE zone.name)
WHERE m.kind = 'days'
UNION
-- A period began. Two hours more: next_billing_at itself is only checked to the hour.
SELECT s.creator_id FROM checkout_subscription s
WHERE s.state IN ('active', 'past_due') AND s.next_billing_at <= %(as_of)s + interval '2 hours'
UNION
-- A row whose own calendar is wrong cannot be trusted to say when its next period begins.
SELECT d.key FROM settlements_discrepancy d
WHERE d.kind = 'periods' AND d.cleared_at IS NULL AND d.key IS NOT NULL
UNION
-- Published, and the topic has been read further since.
SELECT o.key FROM checkout_publishedmessage p JOIN checkout_outboxmessage o ON o.id = p.message_id
WHERE p.door = 'kafka' AND p.seen_at IS NULL;

-- One row of a match by hand changed: its other lines and attempts are believed no more, or again.
WITH near AS (
  SELECT m.proposal_id AS id FROM reconcile_line k
  JOIN settlements_matchedline m ON m.key = k.key AND m.in_force
  UNION
  SELECT m.proposal_id FROM reconcile_creator k
  JOIN settlements_matchedattempt m ON m.creator_id = k.id AND m.in_force
), lines AS (
  INSERT INTO reconcile_line
  SELECT m.key FROM near JOIN settlements_matchedline m ON m.proposal_id = near.id
  ON CONFLICT DO NOTHING
)
INSERT INTO reconcile_creator
SELECT m.creator_id FROM near JOIN settlements_matchedattempt m ON m.proposal_id = near.id
UNION
SELECT a.creator_id FROM near JOIN settlements_matchedline m ON m.proposal_id = near.id
JOIN checkout_attempt a ON a.id = m.key
ON CONFLICT DO NOTHING;
