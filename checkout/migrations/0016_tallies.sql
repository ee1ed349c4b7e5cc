-- Figures that are added up, not counted (R47). A change adds rows in its own transaction and waits for no
-- other: a counter that every charge of a day updates would make them wait for one another. A job folds
-- the rows of one key into one; their sum is exact at every moment, before, during and after that.

CREATE FUNCTION checkout_tally_charges() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO checkout_chargetally (day, lane, state, count, usd, is_folded)
  SELECT period_start, lane, state, count(*), sum(amount), false FROM became GROUP BY 1, 2, 3;
  RETURN NULL;
END
$$;

CREATE FUNCTION checkout_tally_charge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO checkout_chargetally (day, lane, state, count, usd, is_folded)
  VALUES (OLD.period_start, OLD.lane, OLD.state, -1, -OLD.amount, false);
  IF TG_OP = 'UPDATE' THEN
    INSERT INTO checkout_chargetally (day, lane, state, count, usd, is_folded)
    VALUES (NEW.period_start, NEW.lane, NEW.state, 1, NEW.amount, false);
  END IF;
  RETURN NULL;
END
$$;

-- A quarter of an hour falls into one day in every time zone there is.
CREATE FUNCTION checkout_tally_slot(booked timestamptz, ended timestamptz, started timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
  SELECT date_bin('15 minutes', coalesce(booked, ended, started), '2000-01-01T00:00:00Z')
$$;

CREATE FUNCTION checkout_tally_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' AND OLD.outcome <> 'open' THEN
    INSERT INTO checkout_attempttally (slot, lane, outcome, decline_class, count, usd, is_folded)
    VALUES (checkout_tally_slot(OLD.booked_at, OLD.ended_at, OLD.started_at), OLD.lane, OLD.outcome,
            OLD.decline_class, -1, -coalesce(OLD.captured_amount, OLD.amount), false);
  END IF;
  IF TG_OP <> 'DELETE' AND NEW.outcome <> 'open' THEN
    INSERT INTO checkout_attempttally (slot, lane, outcome, decline_class, count, usd, is_folded)
    VALUES (checkout_tally_slot(NEW.booked_at, NEW.ended_at, NEW.started_at), NEW.lane, NEW.outcome,
            NEW.decline_class, 1, coalesce(NEW.captured_amount, NEW.amount), false);
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER checkout_tally_insert AFTER INSERT ON checkout_charge
REFERENCING NEW TABLE AS became FOR EACH STATEMENT EXECUTE FUNCTION checkout_tally_charges();
CREATE TRIGGER checkout_tally_update AFTER UPDATE ON checkout_charge FOR EACH ROW
WHEN ((OLD.period_start, OLD.lane, OLD.state, OLD.amount)
      IS DISTINCT FROM (NEW.period_start, NEW.lane, NEW.state, NEW.amount))
EXECUTE FUNCTION checkout_tally_charge();
CREATE TRIGGER checkout_tally_delete AFTER DELETE ON checkout_charge
FOR EACH ROW EXECUTE FUNCTION checkout_tally_charge();
CREATE TRIGGER checkout_tally_insert AFTER INSERT ON checkout_attempt FOR EACH ROW
WHEN (NEW.outcome <> 'open') EXECUTE FUNCTION checkout_tally_attempt();
CREATE TRIGGER checkout_tally_update AFTER UPDATE ON checkout_attempt FOR EACH ROW
WHEN ((OLD.outcome, OLD.lane, OLD.decline_class, OLD.captured_amount, OLD.amount, OLD.booked_at,
       OLD.ended_at, OLD.started_at)
      IS DISTINCT FROM (NEW.outcome, NEW.lane, NEW.decline_class, NEW.captured_amount, NEW.amount,
                        NEW.booked_at, NEW.ended_at, NEW.started_at))
EXECUTE FUNCTION checkout_tally_attempt();
CREATE TRIGGER checkout_tally_delete AFTER DELETE ON checkout_attempt
FOR EACH ROW EXECUTE FUNCTION checkout_tally_attempt();

-- An edit with triggers off (session_replication_role = replica) is added up too.
ALTER TABLE checkout_charge ENABLE ALWAYS TRIGGER checkout_tally_insert;
ALTER TABLE checkout_charge ENABLE ALWAYS TRIGGER checkout_tally_update;
ALTER TABLE checkout_charge ENABLE ALWAYS TRIGGER checkout_tally_delete;
ALTER TABLE checkout_attempt ENABLE ALWAYS TRIGGER checkout_tally_insert;
ALTER TABLE checkout_attempt ENABLE ALWAYS TRIGGER checkout_tally_update;
ALTER TABLE checkout_attempt ENABLE ALWAYS TRIGGER checkout_tally_delete;

-- What is there already, counted once.
INSERT INTO checkout_chargetally (day, lane, state, count, usd, is_folded)
SELECT period_start, lane, state, count(*), sum(amount), true FROM checkout_charge GROUP BY 1, 2, 3;
INSERT INTO checkout_attempttally (slot, lane, outcome, decline_class, count, usd, is_folded)
SELECT checkout_tally_slot(booked_at, ended_at, started_at), lane, outcome, decline_class, count(*),
       sum(coalesce(captured_amount, amount)), true
FROM checkout_attempt WHERE outcome <> 'open' GROUP BY 1, 2, 3, 4;
