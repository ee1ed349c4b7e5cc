-- A message waits from its own transaction on, whoever wrote it: with triggers off for a session, too.
CREATE FUNCTION checkout_message_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO checkout_pendingmessage (message_id, door, key, available_at, tries, last_error)
  SELECT id, door, key, available_at, 0, '' FROM became;
  RETURN NULL;
END
$$;

-- Nothing is forgotten on the way: what leaves one of the two tables is in the other one.
-- Each row is looked up by its index: a plan made while a table was small would walk it when it is not.
CREATE FUNCTION checkout_message_never_lost() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan TO off SET enable_bitmapscan TO off AS $$
DECLARE
  lost bigint;
BEGIN
  IF TG_TABLE_NAME = 'checkout_pendingmessage' THEN
    SELECT message_id INTO lost FROM was
    WHERE NOT EXISTS (SELECT FROM checkout_publishedmessage p WHERE p.message_id = was.message_id)
    LIMIT 1;
  ELSE
    SELECT message_id INTO lost FROM was
    WHERE NOT EXISTS (SELECT FROM checkout_pendingmessage p WHERE p.message_id = was.message_id)
    LIMIT 1;
  END IF;
  IF lost IS NOT NULL THEN
    RAISE EXCEPTION 'outbox message %: it would be neither pending nor published', lost
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END
$$;

INSERT INTO checkout_pendingmessage (message_id, door, key, available_at, tries, last_error, parked_at)
SELECT id, door, key, available_at, tries, last_error, parked_at
FROM checkout_outboxmessage WHERE published_at IS NULL;
INSERT INTO checkout_publishedmessage (message_id, door, published_at, kafka_partition, kafka_offset,
  seen_at)
SELECT id, door, published_at, kafka_partition, kafka_offset, seen_at
FROM checkout_outboxmessage WHERE published_at IS NOT NULL ORDER BY published_at, id;

CREATE TRIGGER checkout_message_waits AFTER INSERT ON checkout_outboxmessage
REFERENCING NEW TABLE AS became FOR EACH STATEMENT EXECUTE FUNCTION checkout_message_waits();
CREATE TRIGGER checkout_message_never_lost AFTER DELETE ON checkout_pendingmessage
REFERENCING OLD TABLE AS was FOR EACH STATEMENT EXECUTE FUNCTION checkout_message_never_lost();
CREATE TRIGGER checkout_message_never_lost AFTER DELETE ON checkout_publishedmessage
REFERENCING OLD TABLE AS was FOR EACH STATEMENT EXECUTE FUNCTION checkout_message_never_lost();
ALTER TABLE checkout_outboxmessage ENABLE ALWAYS TRIGGER checkout_message_waits;
ALTER TABLE checkout_pendingmessage ENABLE ALWAYS TRIGGER checkout_message_never_lost;
ALTER TABLE checkout_publishedmessage ENABLE ALWAYS TRIGGER checkout_message_never_lost;

DROP TRIGGER checkout_message_guard ON checkout_outboxmessage;
CREATE OR REPLACE FUNCTION checkout_message_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'outbox message %: what it says never changes', OLD.id
    USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER checkout_message_guard BEFORE UPDATE OR DELETE ON checkout_outboxmessage
FOR EACH ROW EXECUTE FUNCTION checkout_message_guard();

DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    GRANT SELECT, INSERT, UPDATE, DELETE ON checkout_pendingmessage, checkout_publishedmessage
      TO checkout_app;
    REVOKE UPDATE, DELETE, TRUNCATE ON checkout_outboxmessage FROM checkout_app;
  END IF;
END
$$;
