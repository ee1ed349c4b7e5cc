-- What was asked and answered never changes. An attempt keeps its newest hundred: the statement that counts
-- the next question deletes the oldest, and may not see its own count yet, so 99.
CREATE FUNCTION checkout_attempt_query_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM checkout_attempt a
                                  WHERE a.id = OLD.attempt_id AND OLD.number <= a.queries - 99) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'question % of attempt %: what was asked and answered never changes',
    OLD.number, OLD.attempt_id USING ERRCODE = 'check_violation';
END
$$;

CREATE TRIGGER checkout_attempt_query_guard BEFORE UPDATE OR DELETE ON checkout_attemptquery
FOR EACH ROW EXECUTE FUNCTION checkout_attempt_query_guard();
CREATE TRIGGER checkout_never_emptied BEFORE TRUNCATE ON checkout_attemptquery
FOR EACH STATEMENT EXECUTE FUNCTION checkout_append_only();

DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    REVOKE UPDATE, TRUNCATE ON checkout_attemptquery FROM checkout_app;
  END IF;
END
$$;
