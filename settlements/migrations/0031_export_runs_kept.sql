-- An export is asked for, claimed any number of times, and ends once. Then only the removal of its file,
-- once, is written to it.
CREATE FUNCTION settlements_export_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.state <> 'asked' OR NEW.tries <> 0 OR NEW.claimed_until IS NOT NULL THEN
      RAISE EXCEPTION 'an export begins as asked for, and not yet begun'
        USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
  END IF;
  IF OLD.state = 'made' AND OLD.removed_at IS NULL AND NEW.removed_at IS NOT NULL
     AND to_jsonb(NEW) - 'removed_at' = to_jsonb(OLD) - 'removed_at' THEN
    RETURN NEW;
  END IF;
  IF OLD.state <> 'asked' OR NEW.tries < OLD.tries OR NEW.removed_at IS NOT NULL
     OR (NEW.id, NEW.what, NEW.form, NEW.query, NEW.words, NEW.asked_by, NEW.asked_at, NEW.reason)
        IS DISTINCT FROM
        (OLD.id, OLD.what, OLD.form, OLD.query, OLD.words, OLD.asked_by, OLD.asked_at, OLD.reason) THEN
    RAISE EXCEPTION 'export %: what was asked for or made never changes', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_export_guard BEFORE INSERT OR UPDATE ON settlements_exportrun
FOR EACH ROW EXECUTE FUNCTION settlements_export_guard();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_exportrun
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    REVOKE DELETE, TRUNCATE ON settlements_exportrun FROM checkout_app;
  END IF;
END
$$;
