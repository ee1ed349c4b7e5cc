-- Of the slice, the creators and every key that only a message or the topic knows.
INSERT INTO reconcile_topic
SELECT id FROM reconcile_creator
UNION SELECT key FROM checkout_outboxmessage
WHERE door = 'kafka' AND key >= %(low)s AND (%(high)s::uuid IS NULL OR key < %(high)s)
UNION SELECT key FROM settlements_topicrecord
WHERE key >= %(low)s AND (%(high)s::uuid IS NULL OR key < %(high)s);
