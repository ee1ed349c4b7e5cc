-- What a processor wrote stays as it wrote it, and what was accepted stays accepted. Of a file that is
-- set aside the verdict moves; where it names no balances they follow the file before.
CREATE FUNCTION settlements_statement_kept() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  free text[] := ARRAY['state', 'reason', 'accepted_at']
    || CASE WHEN OLD.balances_stated THEN '{}'::text[] ELSE ARRAY['opening', 'closing'] END;
BEGIN
  IF OLD.state = 'accepted' OR to_jsonb(NEW) - free <> to_jsonb(OLD) - free THEN
    RAISE EXCEPTION 'statement import %: what was written or accepted never changes', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_statement_kept BEFORE UPDATE ON settlements_statementimport
FOR EACH ROW EXECUTE FUNCTION settlements_statement_kept();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_statementimport
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
-- Other terms are another row: rewritten ones would clear what a processor kept too much.
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_feeterms
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
