-- A verified message keeps when it was (R45). In id order, as the relay marks, so that neither waits
-- for the other in a circle.
UPDATE checkout_publishedmessage p SET seen_at = %(now)s
FROM (
  SELECT m.id FROM reconcile_topic k
  JOIN checkout_outboxmessage m ON m.key = k.key AND m.door = 'kafka'
  JOIN checkout_publishedmessage u ON u.message_id = m.id AND u.seen_at IS NULL
  WHERE EXISTS (SELECT 1 FROM settlements_topicrecord r
                WHERE r.event_id = m.event_id AND r.sha256 = m.payload_sha256
                  AND r.key = m.key AND r.sequence = m.event_seq)
  ORDER BY m.id FOR UPDATE OF u SKIP LOCKED
) verified
WHERE p.message_id = verified.id
