-- What a settlement says is what its lines say, for raw SQL too. It never changes, and lines are never
-- taken out, so a line added later breaks the count, whoever adds it and however many at once.
CREATE FUNCTION settlements_settlement_adds_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  which uuid := CASE WHEN TG_TABLE_NAME = 'settlements_settlement'
                     THEN (to_jsonb(NEW) ->> 'id')::uuid
                     ELSE (to_jsonb(NEW) ->> 'settlement_id')::uuid END;
  said record;
  found record;
BEGIN
  SELECT line_count, charged, unapplied, refunded, disputed, fees, adjusted INTO said
  FROM settlements_settlement WHERE id = which;
  SELECT count(*)::int AS line_count,
         coalesce(sum(amount) FILTER (WHERE kind = 'charge'), 0) AS charged,
         coalesce(sum(amount) FILTER (WHERE kind = 'unapplied'), 0) AS unapplied,
         coalesce(sum(amount) FILTER (WHERE kind = 'refund'), 0) AS refunded,
         coalesce(sum(amount) FILTER (WHERE kind IN ('dispute', 'reversal')), 0) AS disputed,
         coalesce(sum(amount) FILTER (WHERE kind = 'fee'), 0) AS fees,
         coalesce(sum(amount) FILTER (WHERE kind = 'adjustment'), 0) AS adjusted
  INTO found FROM settlements_settlementline WHERE settlement_id = which;
  IF said IS DISTINCT FROM found THEN
    RAISE EXCEPTION 'settlement %: it says % and its lines say %', which, said, found
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END
$$;
-- Deferred: the lines of a settlement are written before it.
CREATE CONSTRAINT TRIGGER settlements_settlement_adds_up AFTER INSERT ON settlements_settlement
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION settlements_settlement_adds_up();
CREATE CONSTRAINT TRIGGER settlements_line_adds_up AFTER INSERT ON settlements_settlementline
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION settlements_settlement_adds_up();

-- Closed is closed: it is proved once, and nothing else of it changes.
CREATE FUNCTION settlements_settlement_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' OR OLD.proved_at IS NOT NULL OR NEW.proved_at IS NULL
     OR to_jsonb(OLD) - 'proved_at' IS DISTINCT FROM to_jsonb(NEW) - 'proved_at' THEN
    RAISE EXCEPTION 'settlement %: a closed period never changes; a later fact falls into the next', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_settlement_kept BEFORE UPDATE OR DELETE ON settlements_settlement
FOR EACH ROW EXECUTE FUNCTION settlements_settlement_kept();
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_settlementline
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

-- Periods of a creator never overlap (R14). Whoever closes holds the creator's lock.
CREATE FUNCTION settlements_settlement_apart() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM settlements_settlement s
             WHERE s.creator_id = NEW.creator_id AND s.period_start < NEW.period_end
               AND s.period_end > NEW.period_start AND s.id <> NEW.id) THEN
    RAISE EXCEPTION 'settlement %: its period overlaps another of the same creator', NEW.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_settlement_apart BEFORE INSERT ON settlements_settlement
FOR EACH ROW EXECUTE FUNCTION settlements_settlement_apart();

-- Lines about an attempt other than its capture name it by our reference; they are few.
CREATE INDEX settlements_line_reference ON settlements_statementline (reference)
WHERE type IN ('refund', 'dispute', 'dispute_fee', 'reversal', 'fee', 'adjustment');

DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    REVOKE UPDATE, DELETE, TRUNCATE ON settlements_settlementline FROM checkout_app;
    REVOKE DELETE, TRUNCATE ON settlements_settlement FROM checkout_app;
  END IF;
END
$$;
