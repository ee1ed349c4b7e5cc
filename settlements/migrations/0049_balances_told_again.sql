-- Whether a row of settlements_statementimport has balances that are not the file's own words: Stripe's
-- report names none, so a person told them, or the opening is the former closing.
CREATE FUNCTION settlements_told_balances(file jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT file ->> 'format' = 'stripe-balance' OR NOT (file ->> 'balances_stated')::boolean
$$;
-- Of a file that is set aside the verdict moves, and balances that were told may be told again. Accepted,
-- it stays as it is.
CREATE OR REPLACE FUNCTION settlements_statement_kept() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  free text[] := ARRAY['state', 'reason', 'accepted_at']
    || CASE WHEN settlements_told_balances(to_jsonb(OLD))
         THEN ARRAY['opening', 'closing', 'balances_stated'] ELSE '{}'::text[] END;
BEGIN
  IF OLD.state = 'accepted' OR to_jsonb(NEW) - free <> to_jsonb(OLD) - free THEN
    RAISE EXCEPTION 'statement import %: what was written or accepted never changes', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
-- As of migration 0036, but what moves by right while a file is set aside is no rewritten row.
CREATE OR REPLACE FUNCTION settlements_mark_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'rewritten', (o.row ->> 'creator_id')::uuid, settlements_rewritten(
      TG_TABLE_NAME, o.row ->> 'id', (o.row ->> 'creator_id')::uuid, (o.row ->> 'charge_id')::uuid, '',
      o.row ->> TG_ARGV[0], '')
    FROM (SELECT to_jsonb(w) AS row FROM was w) o
    UNION ALL
    SELECT 'charge', (o.row ->> 'charge_id')::uuid, NULL::jsonb
    FROM (SELECT to_jsonb(w) AS row FROM was w) o WHERE o.row ? 'charge_id';
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'rewritten', (b.o ->> 'creator_id')::uuid, settlements_rewritten(
      TG_TABLE_NAME, b.n ->> 'id', (b.o ->> 'creator_id')::uuid, (b.o ->> 'charge_id')::uuid, f.name,
      b.o ->> f.name, b.n ->> f.name)
    FROM (SELECT to_jsonb(w) AS o, to_jsonb(r) AS n FROM was w JOIN became r ON r.id = w.id) b
    CROSS JOIN unnest(TG_ARGV) AS f(name)
    WHERE b.o ->> f.name IS DISTINCT FROM b.n ->> f.name
      AND NOT (TG_TABLE_NAME = 'settlements_statementimport' AND f.name IN ('opening', 'closing')
               AND b.o ->> 'state' = 'quarantined' AND settlements_told_balances(b.o))
    UNION ALL
    SELECT 'charge', (b.o ->> 'charge_id')::uuid, NULL::jsonb
    FROM (SELECT to_jsonb(w) AS o FROM was w) b WHERE b.o ? 'charge_id';
  END IF;
  RETURN NULL;
END
$$;
