-- What somebody but a pass clears, moves or deletes is looked at again: a discrepancy cannot be hidden.
CREATE FUNCTION settlements_mark_discrepancy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('settlements.is_pass', true) IS DISTINCT FROM 'yes' THEN
    INSERT INTO reconcile_dirty (kind, subject)
    SELECT named.kind, named.subject FROM (VALUES
      ('charge', OLD.charge_id),
      ('line', CASE WHEN OLD.kind = 'statement' THEN OLD.key END),
      ('creator', CASE WHEN OLD.kind <> 'statement' THEN OLD.key END)
    ) AS named(kind, subject)
    WHERE named.subject IS NOT NULL;
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER dirty_update AFTER UPDATE ON settlements_discrepancy FOR EACH ROW
WHEN ((OLD.fingerprint, OLD.kind, OLD.key, OLD.charge_id, OLD.expected, OLD.actual, OLD.cleared_at)
      IS DISTINCT FROM
      (NEW.fingerprint, NEW.kind, NEW.key, NEW.charge_id, NEW.expected, NEW.actual, NEW.cleared_at))
EXECUTE FUNCTION settlements_mark_discrepancy();
CREATE TRIGGER dirty_delete AFTER DELETE ON settlements_discrepancy FOR EACH ROW
EXECUTE FUNCTION settlements_mark_discrepancy();
ALTER TABLE settlements_discrepancy ENABLE ALWAYS TRIGGER dirty_update;
ALTER TABLE settlements_discrepancy ENABLE ALWAYS TRIGGER dirty_delete;
