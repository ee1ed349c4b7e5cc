-- Of the slice, every key that only a message or the topic knows.
INSERT INTO reconcile_creator
SELECT key FROM (
  SELECT key FROM checkout_outboxmessage
  WHERE door = 'kafka' AND key >= %(low)s AND (%(high)s::uuid IS NULL OR key < %(high)s)
  UNION SELECT key FROM settlements_topicrecord
  WHERE key >= %(low)s AND (%(high)s::uuid IS NULL OR key < %(high)s)
) known
ON CONFLICT DO NOTHING;
