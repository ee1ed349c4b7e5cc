CREATE FUNCTION checkout_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- The test runner empties tables between tests by TRUNCATE, in its own databases alone.
  IF TG_OP = 'TRUNCATE' AND current_database() LIKE 'test\_%' THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION '%: rows are never changed or deleted; a correction is a reversal', TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER checkout_append_only BEFORE UPDATE OR DELETE ON checkout_ledgerentry
FOR EACH ROW EXECUTE FUNCTION checkout_append_only();
CREATE TRIGGER checkout_append_only BEFORE UPDATE OR DELETE ON checkout_ledgerposting
FOR EACH ROW EXECUTE FUNCTION checkout_append_only();
CREATE TRIGGER checkout_never_emptied BEFORE TRUNCATE ON checkout_ledgerentry
FOR EACH STATEMENT EXECUTE FUNCTION checkout_append_only();
CREATE TRIGGER checkout_never_emptied BEFORE TRUNCATE ON checkout_ledgerposting
FOR EACH STATEMENT EXECUTE FUNCTION checkout_append_only();

CREATE FUNCTION checkout_message_guard() RETURNS trigger LANGUAGE plpgsql AS $$
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
