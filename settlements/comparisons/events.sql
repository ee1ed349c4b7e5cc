-- Left: the outbox's messages for the topic. Right: what the topic was read to hold (R45).
WITH messages AS (
  SELECT o.* FROM reconcile_topic k
  JOIN checkout_outboxmessage o ON o.key = k.key AND o.door = 'kafka'
),
records AS (
  SELECT r.* FROM reconcile_topic k JOIN settlements_topicrecord r ON r.key = k.key
),
about AS (
  SELECT DISTINCT ON (m.id) m.id, c.id AS charge_id
  FROM messages m JOIN checkout_charge c ON c.id = m.subject
)
SELECT 'gap' AS code, k.key::text AS subject, k.key, NULL::uuid AS charge_id, c.id AS creator_id,
       '' AS lane, 0.00 AS expected, 0.00 AS actual,
       'The creator''s events are numbered to ' || n.last || ', but the outbox holds ' || n.held
         || ' of them; the first that is missing is number ' || (
           SELECT min(g) FROM generate_series(1, least(n.last, n.held + 1)) g
           WHERE NOT EXISTS (SELECT 1 FROM checkout_outboxmessage o
                             WHERE o.door = 'kafka' AND o.key = k.key AND o.event_seq = g))
         || '.' AS explanation
FROM reconcile_topic k
LEFT JOIN checkout_creator c ON c.id = k.key
CROSS JOIN LATERAL (
  SELECT count(*) AS held, greatest(coalesce(max(o.event_seq), 0), coalesce(c.event_seq, 0)) AS last
  FROM checkout_outboxmessage o WHERE o.key = k.key AND o.door = 'kafka'
) n
WHERE n.held <> n.last
UNION ALL
SELECT 'changed', m.event_id::text, m.key, a.charge_id, c.id, '', 0.00, 0.00,
       'Event ' || m.event_seq || ' (' || m.type || ') does not say in the outbox what '
         || CASE WHEN r.event_id IS NULL THEN 'its hash says' ELSE 'was published' END || '.'
FROM messages m
LEFT JOIN about a ON a.id = m.id
LEFT JOIN checkout_creator c ON c.id = m.key
LEFT JOIN LATERAL (
  SELECT t.event_id FROM settlements_topicrecord t
  WHERE t.event_id = m.event_id
    AND (t.sha256, t.key, t.sequence) IS DISTINCT FROM (m.payload_sha256, m.key, m.event_seq)
  LIMIT 1
) r ON true
WHERE r.event_id IS NOT NULL
   OR encode(sha256(convert_to(m.payload, 'UTF8')), 'hex') <> m.payload_sha256
UNION ALL
SELECT 'extra', r.event_id::text, r.key, NULL, c.id, '', 0.00, 0.00,
       'The topic holds event ' || r.event_id || ' (number ' || min(r.sequence)
         || ' of the creator), which was never in the outbox.'
FROM records r
LEFT JOIN checkout_creator c ON c.id = r.key
WHERE NOT EXISTS (SELECT 1 FROM checkout_outboxmessage o
                  WHERE o.event_id = r.event_id AND o.door = 'kafka')
GROUP BY r.event_id, r.key, c.id
UNION ALL
SELECT 'missing', m.event_id::text, m.key, a.charge_id, c.id, '', 0.00, 0.00,
       'Event ' || m.event_seq || ' (' || m.type || ') was published '
         || to_char(p.published_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
         || ' UTC, but the topic does not hold it.'
FROM messages m
JOIN checkout_publishedmessage p ON p.message_id = m.id
LEFT JOIN about a ON a.id = m.id
LEFT JOIN checkout_creator c ON c.id = m.key
LEFT JOIN settlements_topicprogress t ON t.partition = p.kafka_partition
-- Acknowledged before the last reading began: then that reading saw it, if it was there.
WHERE p.published_at < %(topic_read_at)s::timestamptz - interval '2 minutes'
  AND NOT EXISTS (SELECT 1 FROM settlements_topicrecord r WHERE r.event_id = m.event_id)
  -- What lay before the oldest record that was read is gone by retention.
  AND (p.kafka_offset IS NULL OR t.first_offset IS NULL OR p.kafka_offset >= t.first_offset)
UNION ALL
SELECT 'order', r.event_id::text, r.key, NULL, c.id, '', 0.00, 0.00,
       'The topic holds event ' || r.sequence || ' of the creator before event ' || r.before || '.'
FROM (
  SELECT f.*, max(f.sequence) OVER (PARTITION BY f.key, f.partition ORDER BY f.first_offset
                                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
  FROM (SELECT key, partition, event_id, min(sequence) AS sequence, min("offset") AS first_offset
        FROM records GROUP BY key, partition, event_id) f
) r
LEFT JOIN checkout_creator c ON c.id = r.key
WHERE r.before > r.sequence
