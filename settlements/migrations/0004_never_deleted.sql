CREATE FUNCTION settlements_never_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%: rows are never changed or deleted', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END
$$;

CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_settlementschedule
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_discrepancy
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
-- What a processor wrote stays as it wrote it.
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_statementline
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

-- Published and not yet seen in the topic: looked at by every pass, empty but for what is under way.
CREATE INDEX settlements_message_unseen ON checkout_outboxmessage (kafka_partition, kafka_offset)
WHERE door = 'kafka' AND published_at IS NOT NULL AND seen_at IS NULL;
