-- One person has one name, on a page and at the command line (R43).
CREATE FUNCTION settlements_person(name text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN starts_with(name, 'command line: ') THEN substr(name, 15) ELSE name END
$$;

-- The first close locks all that lies before its day too: until then who posts shares one more lock,
-- (key, -1), always taken before the day's own, so that no two wait for each other.
CREATE FUNCTION settlements_lock_day(day date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF settlements_closed_through() IS NULL THEN
    PERFORM pg_advisory_xact_lock(settlements_books_key(), -1);
  END IF;
  PERFORM pg_advisory_xact_lock(settlements_books_key(), settlements_day_number(day));
END
$$;

-- The oldest day is enough: while it is open, so is every later one, and the lock keeps it open.
CREATE FUNCTION settlements_refuse_closed(oldest date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  closed date;
BEGIN
  IF oldest IS NULL THEN
    RETURN;
  END IF;
  -- An older snapshot would not see a close that was committed since.
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'entries are posted in READ COMMITTED: an older snapshot does not see what is closed'
      USING ERRCODE = 'check_violation';
  END IF;
  IF settlements_closed_through() IS NULL THEN
    PERFORM pg_advisory_xact_lock_shared(settlements_books_key(), -1);
  END IF;
  PERFORM pg_advisory_xact_lock_shared(settlements_books_key(), settlements_day_number(oldest));
  closed := settlements_closed_through();
  IF oldest <= closed THEN
    RAISE EXCEPTION 'an entry is dated %, but the books are closed through %: it belongs to an open day',
      oldest, closed USING ERRCODE = 'check_violation';
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION settlements_books_open() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM settlements_refuse_closed((SELECT (min(posted_at) AT TIME ZONE 'UTC')::date FROM became));
  RETURN NULL;
END
$$;

-- Two postings that sum to zero, added to an old entry, would change its day as well.
CREATE FUNCTION settlements_postings_open() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM settlements_refuse_closed((
    SELECT (min(e.posted_at) AT TIME ZONE 'UTC')::date
    FROM (SELECT DISTINCT entry_id FROM became) p JOIN checkout_ledgerentry e ON e.id = p.entry_id));
  RETURN NULL;
END
$$;
CREATE TRIGGER settlements_postings_open AFTER INSERT ON checkout_ledgerposting
REFERENCING NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_postings_open();

CREATE OR REPLACE FUNCTION settlements_close_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  after_it date := (NEW.first_day + CASE NEW.span WHEN 'day' THEN interval '1 day'
                                                  ELSE interval '1 month' END)::date;
  closed date;
  carried record;
  booked record;
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.decision <> '' OR NEW.as_of < after_it::timestamp AT TIME ZONE 'UTC' THEN
      RAISE EXCEPTION 'a close is proposed undecided, when its % is over', NEW.span
        USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
  END IF;
  IF OLD.decision <> ''
     OR (to_jsonb(NEW) - '{decision,decided_by,decided_at,decided_because}'::text[])
        IS DISTINCT FROM
        (to_jsonb(OLD) - '{decision,decided_by,decided_at,decided_because}'::text[]) THEN
    RAISE EXCEPTION 'close %: what was proposed or decided never changes', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  -- The same names are the constraint's; here is one person with two.
  IF NEW.decision IN ('approved', 'refused') AND NEW.decided_by <> NEW.proposed_by
     AND settlements_person(NEW.decided_by) = settlements_person(NEW.proposed_by) THEN
    RAISE EXCEPTION 'close %: who proposes it does not approve it', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.decision <> 'approved' THEN
    RETURN NEW;
  END IF;
  PERFORM pg_advisory_xact_lock(settlements_books_key(), 0);
  IF NEW.span = 'day' THEN
    PERFORM settlements_lock_day(NEW.first_day);
  END IF;
  closed := settlements_closed_through();
  IF NEW.span = 'day' AND NEW.first_day <> closed + 1 THEN
    RAISE EXCEPTION 'close %: days close in order, % is the next', OLD.id, closed + 1
      USING ERRCODE = 'check_violation';
  ELSIF NEW.span = 'month' AND coalesce(closed < after_it - 1, true) THEN
    RAISE EXCEPTION 'close %: not all days of the month are closed', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  SELECT count(*) AS count, coalesce(sum(usd), 0) AS usd INTO carried
  FROM settlements_carriedover WHERE close_id = NEW.id;
  SELECT count(*) AS count, coalesce(sum(p.amount) FILTER (WHERE p.amount > 0), 0) AS debit INTO booked
  FROM checkout_ledgerposting p JOIN checkout_ledgerentry e ON e.id = p.entry_id
  WHERE e.posted_at >= NEW.first_day::timestamp AT TIME ZONE 'UTC'
    AND e.posted_at < after_it::timestamp AT TIME ZONE 'UTC';
  IF (carried.count, carried.usd) IS DISTINCT FROM (NEW.carried_count::bigint, NEW.carried_usd)
     OR (booked.count, booked.debit) IS DISTINCT FROM (NEW.line_count::bigint, NEW.debit) THEN
    RAISE EXCEPTION 'close %: what it says is not what the books hold', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;

-- An entry that is dated anew behind the triggers is named: a closed day's journal is another then.
CREATE OR REPLACE FUNCTION settlements_mark_entry() RETURNS trigger LANGUAGE plpgsql
SET timezone TO 'UTC' AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject) SELECT DISTINCT 'charge', charge_id FROM became;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'charge', charge_id, NULL::jsonb FROM was
    UNION ALL
    SELECT 'rewritten', NULL, settlements_rewritten(
      TG_TABLE_NAME, id::text, NULL, charge_id, '', kind, '') FROM was;
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'charge', charge_id, NULL::jsonb
    FROM (SELECT charge_id FROM was UNION SELECT charge_id FROM became) c
    UNION ALL
    SELECT 'rewritten', NULL, settlements_rewritten(
      TG_TABLE_NAME, n.id::text, NULL, o.charge_id, f.field, f.was, f.becomes)
    FROM was o JOIN became n ON n.id = o.id
    CROSS JOIN LATERAL (VALUES
      ('kind', o.kind::text, n.kind::text),
      ('charge_id', o.charge_id::text, n.charge_id::text),
      ('attempt_id', o.attempt_id::text, n.attempt_id::text),
      -- As to_jsonb writes the row, which it is held against later.
      ('posted_at', to_jsonb(o.posted_at) #>> '{}', to_jsonb(n.posted_at) #>> '{}')
    ) AS f(field, was, becomes)
    WHERE f.was IS DISTINCT FROM f.becomes;
  END IF;
  RETURN NULL;
END
$$;
