DROP TRIGGER settlements_postings_open ON checkout_ledgerposting;
DROP FUNCTION settlements_postings_open();
CREATE OR REPLACE FUNCTION settlements_books_open() RETURNS trigger LANGUAGE plpgsql AS $$
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
ALTER FUNCTION settlements_mark_entry() RESET timezone;
CREATE OR REPLACE FUNCTION settlements_mark_entry() RETURNS trigger LANGUAGE plpgsql AS $$
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
      ('attempt_id', o.attempt_id::text, n.attempt_id::text)
    ) AS f(field, was, becomes)
    WHERE f.was IS DISTINCT FROM f.becomes;
  END IF;
  RETURN NULL;
END
$$;
DROP FUNCTION settlements_refuse_closed(date);
DROP FUNCTION settlements_lock_day(date);
DROP FUNCTION settlements_person(text);
