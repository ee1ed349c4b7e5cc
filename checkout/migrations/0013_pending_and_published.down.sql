DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    GRANT UPDATE, DELETE ON checkout_outboxmessage TO checkout_app;
  END IF;
END
$$;

DROP TRIGGER checkout_message_guard ON checkout_outboxmessage;
DROP TRIGGER checkout_message_never_lost ON checkout_publishedmessage;
DROP TRIGGER checkout_message_never_lost ON checkout_pendingmessage;
DROP TRIGGER checkout_message_waits ON checkout_outboxmessage;
DROP FUNCTION checkout_message_never_lost();
DROP FUNCTION checkout_message_waits();

UPDATE checkout_outboxmessage m
SET available_at = p.available_at, tries = p.tries, last_error = p.last_error, parked_at = p.parked_at
FROM checkout_pendingmessage p WHERE p.message_id = m.id;
UPDATE checkout_outboxmessage m
SET published_at = p.published_at, kafka_partition = p.kafka_partition, kafka_offset = p.kafka_offset,
    seen_at = p.seen_at
FROM checkout_publishedmessage p WHERE p.message_id = m.id;

CREATE OR REPLACE FUNCTION checkout_message_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.event_id, NEW.door, NEW.key, NEW.event_seq, NEW.type, NEW.subject, NEW.payload,
      NEW.payload_sha256)
     IS DISTINCT FROM
     (OLD.event_id, OLD.door, OLD.key, OLD.event_seq, OLD.type, OLD.subject, OLD.payload,
      OLD.payload_sha256) THEN
    RAISE EXCEPTION 'outbox message %: what it says never changes', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER checkout_message_guard BEFORE UPDATE ON checkout_outboxmessage
FOR EACH ROW EXECUTE FUNCTION checkout_message_guard();
