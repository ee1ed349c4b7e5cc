-- Every creator, and every key that only a message or the topic knows.
INSERT INTO reconcile_creator
SELECT id FROM checkout_creator
UNION SELECT key FROM checkout_outboxmessage WHERE door = 'kafka'
UNION SELECT key FROM settlements_topicrecord;
INSERT INTO reconcile_line SELECT DISTINCT key FROM settlements_statementline;
