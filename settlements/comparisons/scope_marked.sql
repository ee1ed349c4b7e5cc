-- What the marks name, and what only the passing of time makes worth another look. A mark of a creator is
-- of everything it has, unless its detail narrows it to its calendar or to its events.
INSERT INTO reconcile_line
SELECT subject FROM reconcile_mark WHERE kind = 'line' AND subject IS NOT NULL
UNION
SELECT l.key FROM reconcile_mark m
JOIN settlements_statementline l ON l.statement_id = (m.detail ->> 'statement')::bigint
WHERE m.kind = 'statement'
UNION
-- Fee terms are held against the processor's own clock, which may be past a midnight that ours was not.
SELECT l.key FROM reconcile_mark m
JOIN settlements_statementimport f ON f.last_day >= (m.detail ->> 'first')::date - 1
JOIN settlements_statementline l ON l.statement_id = f.id AND l.type = 'charge'
JOIN checkout_attempt a ON a.id = l.key AND a.lane = m.detail ->> 'lane'
WHERE m.kind = 'days' AND m.detail ->> 'last' = 'infinity'
UNION
-- The version before consumes marks and clears these by the creator. To be dropped with the next version.
SELECT d.key FROM settlements_discrepancy d
WHERE d.kind = 'statement' AND d.cleared_at IS NULL AND d.key IS NOT NULL
UNION
-- A line nobody knew, whose attempt has turned up since.
SELECT d.key FROM settlements_discrepancy d JOIN checkout_attempt a ON a.id = d.key
WHERE d.kind = 'statement' AND d.code = 'unmatched' AND d.cleared_at IS NULL;

INSERT INTO reconcile_creator
SELECT subject FROM reconcile_mark
WHERE kind IN ('creator', 'rewritten') AND subject IS NOT NULL
  AND coalesce(detail ->> 'only', 'calendar') = 'calendar'
UNION
-- A period began. Two hours more: next_billing_at itself is only checked to the hour.
SELECT s.creator_id FROM checkout_subscription s
WHERE s.state IN ('active', 'past_due') AND s.next_billing_at <= %(as_of)s + interval '2 hours'
UNION
-- A row whose own calendar is wrong cannot be trusted to say when its next period begins.
SELECT d.key FROM settlements_discrepancy d
WHERE d.kind = 'periods' AND d.charge_id IS NULL AND d.cleared_at IS NULL AND d.key IS NOT NULL
UNION
SELECT s.creator_id FROM settlements_discrepancy d
JOIN checkout_charge c ON c.id = d.charge_id JOIN checkout_subscription s ON s.id = c.subscription_id
WHERE d.kind = 'periods' AND d.cleared_at IS NULL;

INSERT INTO reconcile_topic
SELECT subject FROM reconcile_mark
WHERE kind IN ('creator', 'rewritten') AND subject IS NOT NULL
  AND coalesce(detail ->> 'only', 'events') = 'events'
UNION
-- Published, and no pass has yet judged whether the topic holds it.
SELECT o.key FROM checkout_publishedmessage p JOIN checkout_outboxmessage o ON o.id = p.message_id
WHERE p.door = 'kafka' AND p.seen_at IS NULL AND p.published_at >= %(unjudged_since)s
UNION
-- What was missing may be gone by retention since.
SELECT d.key FROM settlements_discrepancy d
WHERE d.kind = 'events' AND d.cleared_at IS NULL AND d.key IS NOT NULL;

WITH whole AS (
  SELECT DISTINCT subject AS id FROM reconcile_mark
  WHERE kind IN ('creator', 'rewritten') AND subject IS NOT NULL AND detail ->> 'only' IS NULL
)
INSERT INTO reconcile_charge
-- A row that somebody moved is reached by every way that leads to it.
SELECT c.id FROM whole w JOIN checkout_charge c ON c.creator_id = w.id
UNION
SELECT c.id FROM whole w JOIN checkout_subscription s ON s.creator_id = w.id
JOIN checkout_charge c ON c.subscription_id = s.id
UNION
SELECT a.charge_id FROM whole w JOIN checkout_attempt a ON a.creator_id = w.id
UNION
-- Also one that was deleted: what was found of it is cleared.
SELECT subject FROM reconcile_mark WHERE kind = 'charge' AND subject IS NOT NULL
UNION
SELECT a.charge_id FROM reconcile_line l JOIN checkout_attempt a ON a.id = l.key
UNION
SELECT a.charge_id FROM reconcile_mark m
CROSS JOIN LATERAL (SELECT settlements_statement_zone(m.detail ->> 'lane') AS name) zone
JOIN checkout_attempt a ON a.lane = m.detail ->> 'lane'
  AND a.booked_at >= (m.detail ->> 'first')::date::timestamp AT TIME ZONE zone.name
  AND (m.detail ->> 'last' = 'infinity'
       OR a.booked_at < ((m.detail ->> 'last')::date + 1)::timestamp AT TIME ZONE zone.name)
WHERE m.kind = 'days'
UNION
-- The period it was billed for too early may have begun.
SELECT d.charge_id FROM settlements_discrepancy d
WHERE d.kind = 'periods' AND d.charge_id IS NOT NULL AND d.cleared_at IS NULL;

-- Books that lead to another charge; there are none, unless somebody moved a row.
INSERT INTO reconcile_charge
SELECT e.charge_id FROM reconcile_charge k JOIN checkout_attempt a ON a.charge_id = k.id
JOIN checkout_ledgerentry e ON e.attempt_id = a.id
UNION
SELECT far.id FROM (
  SELECT e.charge_id, e.attempt_id FROM reconcile_charge k
  JOIN checkout_ledgerentry e ON e.charge_id = k.id
  UNION
  SELECT e.charge_id, e.attempt_id FROM reconcile_charge k
  JOIN checkout_ledgerposting p ON p.charge_id = k.id JOIN checkout_ledgerentry e ON e.id = p.entry_id
) e
LEFT JOIN checkout_attempt a ON a.id = e.attempt_id
CROSS JOIN LATERAL (VALUES (e.charge_id), (a.charge_id)) AS far(id)
WHERE far.id IS NOT NULL
ON CONFLICT DO NOTHING;

-- Lines are held against attempts, whose key they name.
INSERT INTO reconcile_line
SELECT a.id FROM reconcile_charge k JOIN checkout_attempt a ON a.charge_id = k.id
ON CONFLICT DO NOTHING;

-- One row of a match by hand changed: its other lines and attempts are believed no more, or again.
WITH near AS (
  SELECT m.proposal_id AS id FROM reconcile_line k
  JOIN settlements_matchedline m ON m.key = k.key AND m.in_force
  UNION
  SELECT m.proposal_id FROM reconcile_line k
  JOIN settlements_matchedattempt m ON m.attempt_id = k.key AND m.in_force
), keys AS (
  SELECT m.key FROM near JOIN settlements_matchedline m ON m.proposal_id = near.id
  UNION
  SELECT m.attempt_id FROM near JOIN settlements_matchedattempt m ON m.proposal_id = near.id
), lines AS (
  INSERT INTO reconcile_line SELECT key FROM keys ON CONFLICT DO NOTHING
)
INSERT INTO reconcile_charge
SELECT DISTINCT a.charge_id FROM keys JOIN checkout_attempt a ON a.id = keys.key
ON CONFLICT DO NOTHING;
