-- A slice of every creator, and of every key that only a message, the topic or a line knows.
INSERT INTO reconcile_creator
SELECT id FROM (
  SELECT id FROM checkout_creator
  UNION SELECT key FROM checkout_outboxmessage WHERE door = 'kafka'
  UNION SELECT key FROM settlements_topicrecord
) known
WHERE id >= %(low)s AND (%(high)s::uuid IS NULL OR id < %(high)s);
INSERT INTO reconcile_line
SELECT DISTINCT key FROM settlements_statementline
WHERE key >= %(low)s AND (%(high)s::uuid IS NULL OR key < %(high)s);
