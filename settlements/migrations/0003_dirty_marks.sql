-- Statement-level triggers with transition tables: a bill run of 1 000 creators costs one INSERT
-- a table, not 1 000. Names: was = rows before, became = rows after; both for an UPDATE.

-- A change of a fact that never legitimately changes, with its old and new value.
CREATE FUNCTION settlements_rewritten(source text, id text, creator uuid, charge uuid,
                                      field text, was text, becomes text) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
  SELECT jsonb_build_object('table', source, 'id', id, 'creator', creator, 'charge', charge,
                            'column', field, 'was', was, 'now', becomes)
$$;

CREATE FUNCTION settlements_mark_charge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject)
    SELECT DISTINCT 'creator', creator_id FROM became;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'creator', creator_id, NULL::jsonb FROM was
    UNION ALL
    SELECT 'rewritten', creator_id, settlements_rewritten(
      TG_TABLE_NAME, id::text, creator_id, id, '', settlements_usd(amount), '') FROM was;
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'creator', creator_id, NULL::jsonb
    FROM (SELECT creator_id FROM was UNION SELECT creator_id FROM became) c
    UNION ALL
    SELECT 'rewritten', o.creator_id, settlements_rewritten(
      TG_TABLE_NAME, n.id::text, o.creator_id, n.id, f.field, f.was, f.becomes)
    FROM was o JOIN became n ON n.id = o.id
    CROSS JOIN LATERAL (VALUES
      ('amount', o.amount::text, n.amount::text),
      ('expected_amount', o.expected_amount::text, n.expected_amount::text),
      ('currency', o.currency::text, n.currency::text),
      ('period_start', o.period_start::text, n.period_start::text),
      ('period_end', o.period_end::text, n.period_end::text),
      ('creator_id', o.creator_id::text, n.creator_id::text),
      ('subscription_id', o.subscription_id::text, n.subscription_id::text),
      ('terms_id', o.terms_id::text, n.terms_id::text),
      -- A legal move says nothing here; F27's succeeded to failed_then_retry does.
      ('state', CASE WHEN NOT checkout_legal_move(o.state, n.state) THEN o.state END::text,
                CASE WHEN o.state = n.state OR NOT checkout_legal_move(o.state, n.state)
                     THEN n.state END::text)
    ) AS f(field, was, becomes)
    WHERE f.was IS DISTINCT FROM f.becomes;
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION settlements_mark_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject)
    SELECT DISTINCT 'creator', creator_id FROM became
    UNION ALL SELECT 'charge', charge_id FROM became;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'creator', creator_id, NULL::jsonb FROM was
    UNION ALL SELECT 'charge', charge_id, NULL::jsonb FROM was
    UNION ALL SELECT 'line', id, NULL::jsonb FROM was
    UNION ALL
    SELECT 'rewritten', creator_id, settlements_rewritten(
      TG_TABLE_NAME, id::text, creator_id, charge_id, '',
      coalesce(settlements_usd(captured_amount), outcome), '') FROM was;
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'creator', creator_id, NULL::jsonb
    FROM (SELECT creator_id FROM was UNION SELECT creator_id FROM became) c
    UNION ALL
    SELECT 'charge', charge_id, NULL::jsonb
    FROM (SELECT charge_id FROM was UNION SELECT charge_id FROM became) c
    UNION ALL
    SELECT 'line', id, NULL::jsonb
    FROM (SELECT id FROM was EXCEPT SELECT id FROM became) moved
    UNION ALL
    SELECT 'rewritten', o.creator_id, settlements_rewritten(
      TG_TABLE_NAME, n.id::text, o.creator_id, o.charge_id, f.field, f.was, f.becomes)
    FROM was o JOIN became n ON n.id = o.id
    CROSS JOIN LATERAL (VALUES
      ('charge_id', o.charge_id::text, n.charge_id::text),
      ('creator_id', o.creator_id::text, n.creator_id::text),
      ('amount', o.amount::text, n.amount::text),
      ('lane', o.lane::text, n.lane::text),
      ('captured_amount', o.captured_amount::text,
        CASE WHEN o.captured_amount IS NULL THEN NULL ELSE n.captured_amount::text END),
      ('outcome',
        CASE WHEN o.outcome = 'open' OR o.outcome IN ('declined', 'not_charged')
                  AND n.outcome IN ('captured', 'unapplied') THEN n.outcome
             ELSE o.outcome END::text, n.outcome::text)
    ) AS f(field, was, becomes)
    WHERE f.was IS DISTINCT FROM f.becomes;
  END IF;
  RETURN NULL;
END
$$;

-- The books are append-only: every UPDATE and DELETE is a rewriting.
CREATE FUNCTION settlements_mark_entry() RETURNS trigger LANGUAGE plpgsql AS $$
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

CREATE FUNCTION settlements_mark_posting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject) SELECT DISTINCT 'charge', charge_id FROM became;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'charge', charge_id, NULL::jsonb FROM was
    UNION
    SELECT 'charge', e.charge_id, NULL FROM was o JOIN checkout_ledgerentry e ON e.id = o.entry_id
    UNION ALL
    SELECT 'rewritten', creator_id, settlements_rewritten(
      TG_TABLE_NAME, id::text, creator_id, charge_id, '', amount::text, '') FROM was;
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'charge', c.charge_id, NULL::jsonb
    FROM (SELECT charge_id FROM was UNION SELECT charge_id FROM became
          UNION SELECT e.charge_id FROM was o JOIN checkout_ledgerentry e ON e.id = o.entry_id
         ) c
    UNION ALL
    SELECT 'rewritten', o.creator_id, settlements_rewritten(
      TG_TABLE_NAME, n.id::text, o.creator_id, o.charge_id, f.field, f.was, f.becomes)
    FROM was o JOIN became n ON n.id = o.id
    CROSS JOIN LATERAL (VALUES
      ('amount', o.amount::text, n.amount::text),
      ('account', o.account::text, n.account::text),
      ('entry_id', o.entry_id::text, n.entry_id::text),
      ('charge_id', o.charge_id::text, n.charge_id::text),
      ('lane', o.lane::text, n.lane::text)
    ) AS f(field, was, becomes)
    WHERE f.was IS DISTINCT FROM f.becomes;
  END IF;
  RETURN NULL;
END
$$;

-- Terms are dated rows; once a charge was computed from one, it never changes (R7).
CREATE FUNCTION settlements_mark_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject)
    SELECT DISTINCT 'creator', s.creator_id
    FROM became n JOIN checkout_subscription s ON s.id = n.subscription_id;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'creator', s.creator_id, NULL::jsonb
    FROM was o JOIN checkout_subscription s ON s.id = o.subscription_id
    UNION ALL
    SELECT 'rewritten', s.creator_id, settlements_rewritten(
      TG_TABLE_NAME, o.id::text, s.creator_id, NULL, '', o.price::text, '')
    FROM was o JOIN checkout_subscription s ON s.id = o.subscription_id;
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'creator', s.creator_id, NULL::jsonb
    FROM (SELECT subscription_id FROM was UNION SELECT subscription_id FROM became) c
    JOIN checkout_subscription s ON s.id = c.subscription_id
    UNION ALL
    SELECT 'rewritten', s.creator_id, settlements_rewritten(
      TG_TABLE_NAME, n.id::text, s.creator_id, NULL, f.field, f.was, f.becomes)
    FROM was o JOIN became n ON n.id = o.id
    JOIN checkout_subscription s ON s.id = o.subscription_id
    CROSS JOIN LATERAL (VALUES
      ('subscription_id', o.subscription_id::text, n.subscription_id::text),
      ('price', o.price::text, n.price::text),
      ('interval', o.interval::text, n.interval::text),
      ('interval_count', o.interval_count::text, n.interval_count::text),
      ('anchor', o.anchor::text, n.anchor::text),
      ('starts_on', o.starts_on::text, n.starts_on::text)
    ) AS f(field, was, becomes)
    WHERE f.was IS DISTINCT FROM f.becomes
      AND EXISTS (SELECT 1 FROM checkout_charge c WHERE c.terms_id = o.id);
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION settlements_mark_subscription() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject)
    SELECT DISTINCT 'creator', creator_id FROM became;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject) SELECT DISTINCT 'creator', creator_id FROM was;
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION settlements_mark_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject)
  SELECT DISTINCT 'creator', key FROM became WHERE door = 'kafka';
  RETURN NULL;
END
$$;

-- Row-level: published_at and tries change all day and mean nothing here, so WHEN skips them.
CREATE FUNCTION settlements_mark_message_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject) VALUES ('creator', OLD.key);
  IF TG_OP = 'UPDATE' AND NEW.key IS DISTINCT FROM OLD.key THEN
    INSERT INTO reconcile_dirty (kind, subject) VALUES ('creator', NEW.key);
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION settlements_mark_creator_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject) VALUES ('creator', OLD.id);
  RETURN NULL;
END
$$;

-- Lines come a million at a time: an INSERT marks their file, once.
CREATE FUNCTION settlements_mark_line() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT DISTINCT 'statement', jsonb_build_object('statement', statement_id) FROM became;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'line', key, NULL::jsonb FROM was
    UNION ALL
    SELECT 'rewritten', NULL, settlements_rewritten(
      TG_TABLE_NAME, id::text, NULL, NULL, '', gross::text, '') FROM was;
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'line', key, NULL::jsonb FROM (SELECT key FROM was UNION SELECT key FROM became) k
    UNION ALL
    SELECT 'rewritten', NULL, settlements_rewritten(
      TG_TABLE_NAME, n.id::text, NULL, NULL, f.field, f.was, f.becomes)
    FROM was o JOIN became n ON n.id = o.id
    CROSS JOIN LATERAL (VALUES
      ('statement_id', o.statement_id::text, n.statement_id::text),
      ('key', o.key::text, n.key::text),
      ('type', o.type::text, n.type::text),
      ('gross', o.gross::text, n.gross::text),
      ('fee', o.fee::text, n.fee::text),
      ('net', o.net::text, n.net::text)
    ) AS f(field, was, becomes)
    WHERE f.was IS DISTINCT FROM f.becomes;
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION settlements_mark_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT 'statement', jsonb_build_object('statement', id) FROM became;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT 'statement', jsonb_build_object('statement', id) FROM was;
  END IF;
  RETURN NULL;
END
$$;

-- A day that became covered, or stopped being so, makes every capture of it worth another look.
CREATE FUNCTION settlements_mark_day() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT 'days', jsonb_build_object('lane', lane, 'first', day, 'last', day)
    FROM became WHERE state = 'arrived';
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT 'days', jsonb_build_object('lane', lane, 'first', day, 'last', day)
    FROM was WHERE state = 'arrived';
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION settlements_mark_fee_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT 'days', jsonb_build_object('lane', lane, 'first', valid_from, 'last', 'infinity')
    FROM became;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT 'days', jsonb_build_object('lane', lane, 'first', valid_from, 'last', 'infinity')
    FROM was;
  END IF;
  RETURN NULL;
END
$$;

-- ENABLE ALWAYS: they fire with session_replication_role = replica, when no other trigger does.
DO $$
DECLARE
  marked record;
BEGIN
  FOR marked IN SELECT * FROM (VALUES
    ('checkout_charge', 'settlements_mark_charge'),
    ('checkout_attempt', 'settlements_mark_attempt'),
    ('checkout_ledgerentry', 'settlements_mark_entry'),
    ('checkout_ledgerposting', 'settlements_mark_posting'),
    ('checkout_subscription', 'settlements_mark_subscription'),
    ('checkout_subscriptionterms', 'settlements_mark_terms'),
    ('settlements_statementline', 'settlements_mark_line'),
    ('settlements_statementimport', 'settlements_mark_statement'),
    ('settlements_statementexpectation', 'settlements_mark_day'),
    ('settlements_feeterms', 'settlements_mark_fee_terms')
  ) AS t(source, marker)
  LOOP
    EXECUTE format('CREATE TRIGGER dirty_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS became'
      ' FOR EACH STATEMENT EXECUTE FUNCTION %I()', marked.source, marked.marker);
    EXECUTE format('CREATE TRIGGER dirty_update AFTER UPDATE ON %I REFERENCING OLD TABLE AS was'
      ' NEW TABLE AS became FOR EACH STATEMENT EXECUTE FUNCTION %I()',
      marked.source, marked.marker);
    EXECUTE format('CREATE TRIGGER dirty_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS was'
      ' FOR EACH STATEMENT EXECUTE FUNCTION %I()', marked.source, marked.marker);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER dirty_insert', marked.source);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER dirty_update', marked.source);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER dirty_delete', marked.source);
  END LOOP;
END
$$;

CREATE TRIGGER dirty_insert AFTER INSERT ON checkout_outboxmessage REFERENCING NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_message();
CREATE TRIGGER dirty_update AFTER UPDATE ON checkout_outboxmessage FOR EACH ROW
WHEN (OLD.door = 'kafka' AND (OLD.event_id, OLD.key, OLD.event_seq, OLD.door, OLD.payload_sha256,
                              OLD.payload)
      IS DISTINCT FROM (NEW.event_id, NEW.key, NEW.event_seq, NEW.door, NEW.payload_sha256,
                        NEW.payload))
EXECUTE FUNCTION settlements_mark_message_row();
CREATE TRIGGER dirty_delete AFTER DELETE ON checkout_outboxmessage FOR EACH ROW
WHEN (OLD.door = 'kafka') EXECUTE FUNCTION settlements_mark_message_row();
ALTER TABLE checkout_outboxmessage ENABLE ALWAYS TRIGGER dirty_insert;
ALTER TABLE checkout_outboxmessage ENABLE ALWAYS TRIGGER dirty_update;
ALTER TABLE checkout_outboxmessage ENABLE ALWAYS TRIGGER dirty_delete;

CREATE TRIGGER dirty_update AFTER UPDATE ON checkout_creator FOR EACH ROW
WHEN (OLD.event_seq IS DISTINCT FROM NEW.event_seq) EXECUTE FUNCTION settlements_mark_creator_row();
ALTER TABLE checkout_creator ENABLE ALWAYS TRIGGER dirty_update;
