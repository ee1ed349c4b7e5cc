-- A mark of a creator is of everything it has, its charges among it. What changes all day touches less,
-- and its detail says so: 'calendar' (periods, terms, settlements: what no single charge decides) or
-- 'events'. It is a detail and no kind of its own: a version that does not know it looks at all.
CREATE FUNCTION settlements_only(part text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT jsonb_build_object('only', part)
$$;

CREATE OR REPLACE FUNCTION settlements_mark_charge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'charge', id, NULL::jsonb FROM became
    UNION ALL
    SELECT DISTINCT 'creator', s.creator_id, settlements_only('calendar')
    FROM became n JOIN checkout_subscription s ON s.id = n.subscription_id;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'charge', id, NULL::jsonb FROM was
    UNION ALL
    SELECT DISTINCT 'creator', s.creator_id, settlements_only('calendar')
    FROM was o JOIN checkout_subscription s ON s.id = o.subscription_id
    UNION ALL
    SELECT DISTINCT 'creator', s.creator_id, settlements_only('calendar')
    FROM was o JOIN checkout_subscriptionterms t ON t.id = o.terms_id
    JOIN checkout_subscription s ON s.id = t.subscription_id
    UNION ALL
    SELECT 'rewritten', creator_id, settlements_rewritten(
      TG_TABLE_NAME, id::text, creator_id, id, '', settlements_usd(amount), '') FROM was;
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'charge', id, NULL::jsonb FROM (SELECT id FROM was UNION SELECT id FROM became) c
    UNION ALL
    -- Periods and terms are held against these columns, never against where a charge stands.
    SELECT DISTINCT 'creator', s.creator_id, settlements_only('calendar')
    FROM was o FULL JOIN became n ON n.id = o.id
    CROSS JOIN LATERAL (
      VALUES (o.subscription_id), (n.subscription_id)
      UNION SELECT t.subscription_id FROM checkout_subscriptionterms t
      WHERE t.id IN (o.terms_id, n.terms_id)
    ) AS named(id)
    JOIN checkout_subscription s ON s.id = named.id
    WHERE (o.amount, o.period_start, o.period_end, o.subscription_id, o.terms_id)
      IS DISTINCT FROM (n.amount, n.period_start, n.period_end, n.subscription_id, n.terms_id)
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

CREATE OR REPLACE FUNCTION settlements_mark_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject) SELECT DISTINCT 'charge', charge_id FROM became;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'charge', charge_id, NULL::jsonb FROM was
    UNION ALL SELECT 'line', id, NULL::jsonb FROM was
    UNION ALL
    SELECT 'rewritten', creator_id, settlements_rewritten(
      TG_TABLE_NAME, id::text, creator_id, charge_id, '',
      coalesce(settlements_usd(captured_amount), outcome), '') FROM was;
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
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

-- Whom it belongs to, its zone and its end say what each of its charges should be; the rest, the calendar.
CREATE OR REPLACE FUNCTION settlements_mark_subscription() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT DISTINCT 'creator', creator_id, settlements_only('calendar') FROM became
    UNION ALL
    -- Put back: what its charges owe is known again.
    SELECT 'charge', c.id, NULL FROM became n JOIN checkout_charge c ON c.subscription_id = n.id;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject)
    SELECT DISTINCT 'creator', creator_id FROM was
    UNION ALL
    SELECT 'charge', c.id FROM was o JOIN checkout_charge c ON c.subscription_id = o.id;
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT DISTINCT 'creator', c.id, CASE WHEN NOT changed.all_of_it THEN settlements_only('calendar') END
    FROM was o FULL JOIN became n ON n.id = o.id
    CROSS JOIN LATERAL (
      SELECT (o.creator_id, o.time_zone, o.closed_at, o.state IN ('active', 'past_due'))
        IS DISTINCT FROM
        (n.creator_id, n.time_zone, n.closed_at, n.state IN ('active', 'past_due')) AS all_of_it
    ) changed
    CROSS JOIN LATERAL (VALUES (o.creator_id), (n.creator_id)) AS c(id)
    WHERE c.id IS NOT NULL;
  END IF;
  RETURN NULL;
END
$$;

-- What was agreed stands in a subscription's own events, which the terms are held against.
CREATE OR REPLACE FUNCTION settlements_mark_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject, detail)
  SELECT DISTINCT 'creator', key, settlements_only('events') FROM became WHERE door = 'kafka'
  UNION ALL
  SELECT DISTINCT 'creator', s.creator_id, settlements_only('calendar')
  FROM became n JOIN checkout_subscription s ON s.id = n.subject
  WHERE n.door = 'kafka' AND n.type IN ('subscription.started', 'subscription.plan_changed');
  RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION settlements_mark_message_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject, detail)
  VALUES ('creator', OLD.key, settlements_only('events'));
  INSERT INTO reconcile_dirty (kind, subject, detail)
  SELECT 'creator', s.creator_id, settlements_only('calendar')
  FROM checkout_subscription s WHERE s.id = OLD.subject;
  IF TG_OP = 'UPDATE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'creator', NEW.key, settlements_only('events') WHERE NEW.key IS DISTINCT FROM OLD.key;
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'creator', s.creator_id, settlements_only('calendar')
    FROM checkout_subscription s WHERE s.id = NEW.subject AND NEW.subject IS DISTINCT FROM OLD.subject;
  END IF;
  RETURN NULL;
END
$$;
DROP TRIGGER dirty_update ON checkout_outboxmessage;
CREATE TRIGGER dirty_update AFTER UPDATE ON checkout_outboxmessage FOR EACH ROW
WHEN ((OLD.door = 'kafka' OR NEW.door = 'kafka')
      AND (OLD.event_id, OLD.key, OLD.event_seq, OLD.door, OLD.payload_sha256, OLD.payload, OLD.type,
           OLD.subject)
      IS DISTINCT FROM (NEW.event_id, NEW.key, NEW.event_seq, NEW.door, NEW.payload_sha256,
                        NEW.payload, NEW.type, NEW.subject))
EXECUTE FUNCTION settlements_mark_message_row();
ALTER TABLE checkout_outboxmessage ENABLE ALWAYS TRIGGER dirty_update;

CREATE OR REPLACE FUNCTION settlements_mark_creator_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject, detail)
  VALUES ('creator', OLD.id, settlements_only('events'));
  RETURN NULL;
END
$$;

-- A settlement and its lines, put in, edited or taken away past the triggers that add them up.
CREATE OR REPLACE FUNCTION settlements_mark_settlement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT DISTINCT 'creator', s.creator_id, settlements_only('calendar')
    FROM became n JOIN settlements_settlement s ON s.id = n.settlement_id;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT DISTINCT 'creator', s.creator_id, settlements_only('calendar')
    FROM was o JOIN settlements_settlement s ON s.id = o.settlement_id;
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER dirty_update AFTER UPDATE ON settlements_settlementline
REFERENCING OLD TABLE AS was NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_settlement();
CREATE TRIGGER dirty_delete AFTER DELETE ON settlements_settlementline REFERENCING OLD TABLE AS was
FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_settlement();
CREATE FUNCTION settlements_mark_new_settlement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject, detail)
  SELECT DISTINCT 'creator', creator_id, settlements_only('calendar') FROM became;
  RETURN NULL;
END
$$;
CREATE TRIGGER dirty_insert AFTER INSERT ON settlements_settlement REFERENCING NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_new_settlement();
ALTER TABLE settlements_settlementline ENABLE ALWAYS TRIGGER dirty_update;
ALTER TABLE settlements_settlementline ENABLE ALWAYS TRIGGER dirty_delete;
ALTER TABLE settlements_settlement ENABLE ALWAYS TRIGGER dirty_insert;

-- Terms are held against the plan that was agreed, and the books against what two people approved.
CREATE FUNCTION settlements_mark_plan() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject, detail)
  SELECT DISTINCT 'creator', s.creator_id, settlements_only('calendar')
  FROM (SELECT code FROM was UNION SELECT code FROM became) p
  JOIN checkout_subscriptionterms t ON t.plan_id = p.code
  JOIN checkout_subscription s ON s.id = t.subscription_id;
  RETURN NULL;
END
$$;
CREATE TRIGGER dirty_update AFTER UPDATE ON checkout_plan
REFERENCING OLD TABLE AS was NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_plan();
ALTER TABLE checkout_plan ENABLE ALWAYS TRIGGER dirty_update;

CREATE OR REPLACE FUNCTION settlements_mark_match(proposal bigint) RETURNS void LANGUAGE sql AS $$
  INSERT INTO reconcile_dirty (kind, subject)
  SELECT 'line', key FROM settlements_matchedline WHERE proposal_id = proposal
  UNION
  SELECT 'line', s.key FROM settlements_matchedline m
  JOIN settlements_statementline s ON s.id = m.line_id WHERE m.proposal_id = proposal
  UNION
  SELECT 'creator', creator_id FROM settlements_matchedattempt WHERE proposal_id = proposal
  UNION
  SELECT 'creator', t.creator_id FROM settlements_matchedattempt m
  JOIN checkout_attempt t ON t.id = m.attempt_id WHERE m.proposal_id = proposal
  UNION
  SELECT 'charge', e.charge_id FROM settlements_proposalitem i
  JOIN checkout_ledgerentry e ON e.id IN (i.entry_id, i.reversal_id) WHERE i.proposal_id = proposal
$$;

DROP TRIGGER dirty_update ON settlements_proposal;
CREATE TRIGGER dirty_update AFTER UPDATE ON settlements_proposal FOR EACH ROW
WHEN ('approved' IN (OLD.decision, NEW.decision)) EXECUTE FUNCTION settlements_mark_proposal();
ALTER TABLE settlements_proposal ENABLE ALWAYS TRIGGER dirty_update;

-- A match put back, and an item that names another entry than was approved.
CREATE FUNCTION settlements_mark_new_proposal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM settlements_mark_match(NEW.id);
  RETURN NULL;
END
$$;
CREATE TRIGGER dirty_insert AFTER INSERT ON settlements_proposal FOR EACH ROW
WHEN (NEW.decision = 'approved') EXECUTE FUNCTION settlements_mark_new_proposal();
ALTER TABLE settlements_proposal ENABLE ALWAYS TRIGGER dirty_insert;
CREATE FUNCTION settlements_mark_item() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject)
  SELECT DISTINCT 'charge', e.charge_id FROM checkout_ledgerentry e
  WHERE e.id IN (OLD.entry_id, OLD.reversal_id, NEW.entry_id, NEW.reversal_id);
  RETURN NULL;
END
$$;
CREATE TRIGGER dirty_item AFTER INSERT OR UPDATE OR DELETE ON settlements_proposalitem
FOR EACH ROW EXECUTE FUNCTION settlements_mark_item();
ALTER TABLE settlements_proposalitem ENABLE ALWAYS TRIGGER dirty_item;

-- Of an attempt whose entry somebody moved to another charge, both are looked at.
CREATE OR REPLACE FUNCTION settlements_mark_entry() RETURNS trigger LANGUAGE plpgsql
SET timezone TO 'UTC' AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, subject)
    SELECT 'charge', charge_id FROM became
    UNION
    SELECT 'charge', a.charge_id FROM became n JOIN checkout_attempt a ON a.id = n.attempt_id;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'charge', charge_id, NULL::jsonb FROM was
    UNION ALL
    SELECT 'charge', a.charge_id, NULL FROM was o JOIN checkout_attempt a ON a.id = o.attempt_id
    UNION ALL
    SELECT 'rewritten', NULL, settlements_rewritten(
      TG_TABLE_NAME, id::text, NULL, charge_id, '', kind, '') FROM was;
  ELSE
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT 'charge', charge_id, NULL::jsonb
    FROM (SELECT charge_id FROM was UNION SELECT charge_id FROM became
          UNION
          SELECT a.charge_id
          FROM (SELECT attempt_id FROM was UNION SELECT attempt_id FROM became) e
          JOIN checkout_attempt a ON a.id = e.attempt_id) c
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

-- Whose zone a lane's days are in decides what its files cover: from the first day on.
CREATE FUNCTION settlements_mark_lane() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, detail)
  SELECT DISTINCT 'days', jsonb_build_object('lane', lane, 'first', date '0001-01-01', 'last', 'infinity')
  FROM (VALUES (OLD.lane), (NEW.lane)) AS named(lane) WHERE lane IS NOT NULL;
  RETURN NULL;
END
$$;
CREATE TRIGGER dirty_lane AFTER INSERT OR UPDATE OR DELETE ON settlements_statementterms
FOR EACH ROW EXECUTE FUNCTION settlements_mark_lane();
ALTER TABLE settlements_statementterms ENABLE ALWAYS TRIGGER dirty_lane;

-- A settlement that somebody moved to another creator.
CREATE FUNCTION settlements_mark_moved_settlement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject, detail)
  SELECT DISTINCT 'creator', n.creator_id, settlements_only('calendar')
  FROM was o JOIN became n ON n.id = o.id AND n.creator_id <> o.creator_id;
  RETURN NULL;
END
$$;
CREATE TRIGGER dirty_update AFTER UPDATE ON settlements_settlement
REFERENCING OLD TABLE AS was NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION settlements_mark_moved_settlement();
ALTER TABLE settlements_settlement ENABLE ALWAYS TRIGGER dirty_update;

-- What an event says was agreed. One that nobody can read says nothing; its hash names it, and a pass
-- must not stop at it.
CREATE FUNCTION settlements_agreed(payload text)
RETURNS TABLE (plan text, price numeric, starts_on date) LANGUAGE sql STABLE ROWS 1 AS $$
  SELECT f.facts ->> 'plan',
         CASE WHEN pg_input_is_valid(f.facts ->> 'price', 'numeric')
           THEN (f.facts ->> 'price')::numeric END,
         CASE WHEN pg_input_is_valid(f.facts ->> 'starts_on', 'date')
           THEN (f.facts ->> 'starts_on')::date END
  FROM (SELECT CASE WHEN pg_input_is_valid(payload, 'jsonb') THEN payload::jsonb END AS facts) f
$$;

-- The periods that begin between two days, both included, counted from near the first: what a charge
-- costs does not grow with the age of its subscription. NULL is from the first period on.
CREATE FUNCTION settlements_periods(subscription uuid, since date, until date)
RETURNS TABLE (terms_id bigint, period_start date, period_end date, amount numeric)
LANGUAGE sql STABLE ROWS 1 AS $$
  SELECT t.id, p.begins, least(p.ends, t.superseded_on), t.price
  FROM (SELECT st.id, st.price, st.anchor, st.starts_on, st.interval,
               -- A count of 0 would stop every pass; that it was rewritten is named.
               greatest(st.interval_count, 1) AS interval_count,
               lead(st.starts_on) OVER (ORDER BY st.starts_on) AS superseded_on
        FROM checkout_subscriptionterms st WHERE st.subscription_id = subscription) t
  CROSS JOIN LATERAL (SELECT (t.interval_count || ' ' || t.interval)::interval AS length) one
  CROSS JOIN LATERAL (SELECT age(since, t.anchor) AS before, age(until, t.anchor) AS elapsed) passed
  CROSS JOIN LATERAL generate_series(
    -- Anchored on a 31st, a period may begin up to one before the months that have passed.
    greatest(0, CASE t.interval
      WHEN 'week' THEN (since - t.anchor) / 7
      WHEN 'month' THEN (extract(year FROM before) * 12 + extract(month FROM before))::integer
      ELSE extract(year FROM before)::integer
    END / t.interval_count - 1),
    CASE t.interval
      WHEN 'week' THEN (until - t.anchor) / 7
      WHEN 'month' THEN (extract(year FROM elapsed) * 12 + extract(month FROM elapsed))::integer + 1
      ELSE extract(year FROM elapsed)::integer + 1
    END / t.interval_count) AS k
  CROSS JOIN LATERAL (SELECT (t.anchor + k * one.length)::date AS begins,
                             (t.anchor + (k + 1) * one.length)::date AS ends) p
  WHERE p.begins >= t.starts_on AND p.begins <= until AND p.begins >= coalesce(since, p.begins)
    AND (t.superseded_on IS NULL OR p.begins < t.superseded_on)
$$;
CREATE OR REPLACE FUNCTION settlements_periods(subscription uuid, until date)
RETURNS TABLE (terms_id bigint, period_start date, period_end date, amount numeric)
LANGUAGE sql STABLE ROWS 24 AS $$
  SELECT * FROM settlements_periods(subscription, NULL, until)
$$;
