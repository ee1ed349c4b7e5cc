-- Keys of the advisory locks: (this, 0) is held by whoever proposes or closes, (this, day number) is
-- shared by who posts into a day and held alone by who closes it.
CREATE FUNCTION settlements_books_key() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 20260123';
CREATE FUNCTION settlements_day_number(day date) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
  SELECT 1 + (day - DATE '1970-01-01')
$$;
CREATE FUNCTION settlements_closed_through() RETURNS date LANGUAGE sql STABLE AS $$
  SELECT max(first_day) FROM settlements_booksclose WHERE span = 'day' AND decision = 'approved'
$$;

-- No entry is dated into a closed day. One look-up a statement: a bill run inserts its entries together.
-- The oldest day is enough: while it is open, so is every later one, and the lock keeps it open.
CREATE FUNCTION settlements_books_open() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  oldest date := (SELECT (min(posted_at) AT TIME ZONE 'UTC')::date FROM became);
  closed date;
BEGIN
  IF oldest IS NULL THEN
    RETURN NULL;
  END IF;
  PERFORM pg_advisory_xact_lock_shared(settlements_books_key(), settlements_day_number(oldest));
  closed := settlements_closed_through();
  IF oldest <= closed THEN
    RAISE EXCEPTION 'an entry is dated %, but the books are closed through %: it belongs to an open day',
      oldest, closed USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER settlements_books_open AFTER INSERT ON checkout_ledgerentry
REFERENCING NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_books_open();

CREATE FUNCTION settlements_close_guard() RETURNS trigger LANGUAGE plpgsql AS $$
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
  IF NEW.decision <> 'approved' THEN
    RETURN NEW;
  END IF;
  PERFORM pg_advisory_xact_lock(settlements_books_key(), 0);
  IF NEW.span = 'day' THEN
    PERFORM pg_advisory_xact_lock(settlements_books_key(), settlements_day_number(NEW.first_day));
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
CREATE TRIGGER settlements_close_guard BEFORE INSERT OR UPDATE ON settlements_booksclose
FOR EACH ROW EXECUTE FUNCTION settlements_close_guard();
CREATE TRIGGER settlements_never_deleted BEFORE DELETE ON settlements_booksclose
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

-- What is carried over is said with the proposal, and stays as it was said.
CREATE FUNCTION settlements_carried_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM settlements_booksclose
                 WHERE id = NEW.close_id AND decision = '') THEN
    RAISE EXCEPTION 'close %: it is decided, nothing more is carried over', NEW.close_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settlements_carried_guard BEFORE INSERT ON settlements_carriedover
FOR EACH ROW EXECUTE FUNCTION settlements_carried_guard();
CREATE TRIGGER settlements_never_deleted BEFORE UPDATE OR DELETE ON settlements_carriedover
FOR EACH ROW EXECUTE FUNCTION settlements_never_deleted();

DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    REVOKE UPDATE, DELETE, TRUNCATE ON settlements_carriedover FROM checkout_app;
    REVOKE DELETE, TRUNCATE ON settlements_booksclose FROM checkout_app;
  END IF;
END
$$;
