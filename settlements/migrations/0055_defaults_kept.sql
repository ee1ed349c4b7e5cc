-- Another default is another row: a rewritten one would say of creators what they never got.
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_routeschedule
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();
