-- What was told stays as it was told.
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_notice
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_noticeitem
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_noticedelivery
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

-- A delivery is tried more often, never less, and once it was taken nothing of it changes.
CREATE FUNCTION settlements_delivery_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.told_at IS NOT NULL OR NEW.tries < OLD.tries
     OR (NEW.id, NEW.notice_id, NEW.way) IS DISTINCT FROM (OLD.id, OLD.notice_id, OLD.way) THEN
    RAISE EXCEPTION 'notice delivery %: what was told stays told', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_delivery_kept BEFORE UPDATE ON settlements_noticedelivery
FOR EACH ROW EXECUTE FUNCTION settlements_delivery_kept();

DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    REVOKE UPDATE, DELETE, TRUNCATE ON settlements_notice, settlements_noticeitem FROM checkout_app;
    REVOKE DELETE, TRUNCATE ON settlements_noticedelivery FROM checkout_app;
  END IF;
END
$$;
