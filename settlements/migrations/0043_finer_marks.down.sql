DROP FUNCTION settlements_agreed(text);
DROP TRIGGER dirty_update ON settlements_settlement;
DROP FUNCTION settlements_mark_moved_settlement();
DROP TRIGGER dirty_lane ON settlements_statementterms;
DROP FUNCTION settlements_mark_lane();
DROP TRIGGER dirty_item ON settlements_proposalitem;
DROP FUNCTION settlements_mark_item();
DROP TRIGGER dirty_insert ON settlements_proposal;
DROP FUNCTION settlements_mark_new_proposal();
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
DROP TRIGGER dirty_update ON settlements_proposal;
CREATE TRIGGER dirty_update AFTER UPDATE ON settlements_proposal FOR EACH ROW
WHEN ('matched' IN (OLD.way, NEW.way) AND 'approved' IN (OLD.decision, NEW.decision))
EXECUTE FUNCTION settlements_mark_proposal();
ALTER TABLE settlements_proposal ENABLE ALWAYS TRIGGER dirty_update;
DROP TRIGGER dirty_update ON checkout_plan;
DROP FUNCTION settlements_mark_plan();
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
$$;
DROP TRIGGER dirty_insert ON settlements_settlement;
DROP FUNCTION settlements_mark_new_settlement();
DROP TRIGGER dirty_update ON settlements_settlementline;
DROP TRIGGER dirty_delete ON settlements_settlementline;
CREATE OR REPLACE FUNCTION settlements_mark_settlement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject)
  SELECT DISTINCT 'creator', s.creator_id
  FROM became n JOIN settlements_settlement s ON s.id = n.settlement_id;
  RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION settlements_mark_charge() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE OR REPLACE FUNCTION settlements_mark_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE OR REPLACE FUNCTION settlements_mark_subscription() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE OR REPLACE FUNCTION settlements_mark_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject)
  SELECT DISTINCT 'creator', key FROM became WHERE door = 'kafka';
  RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION settlements_mark_message_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject) VALUES ('creator', OLD.key);
  IF TG_OP = 'UPDATE' AND NEW.key IS DISTINCT FROM OLD.key THEN
    INSERT INTO reconcile_dirty (kind, subject) VALUES ('creator', NEW.key);
  END IF;
  RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION settlements_mark_creator_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reconcile_dirty (kind, subject) VALUES ('creator', OLD.id);
  RETURN NULL;
END
$$;
DROP TRIGGER dirty_update ON checkout_outboxmessage;
CREATE TRIGGER dirty_update AFTER UPDATE ON checkout_outboxmessage FOR EACH ROW
WHEN (OLD.door = 'kafka' AND (OLD.event_id, OLD.key, OLD.event_seq, OLD.door, OLD.payload_sha256,
                              OLD.payload)
      IS DISTINCT FROM (NEW.event_id, NEW.key, NEW.event_seq, NEW.door, NEW.payload_sha256,
                        NEW.payload))
EXECUTE FUNCTION settlements_mark_message_row();
ALTER TABLE checkout_outboxmessage ENABLE ALWAYS TRIGGER dirty_update;
DROP FUNCTION settlements_only(text);
CREATE OR REPLACE FUNCTION settlements_periods(subscription uuid, until date)
RETURNS TABLE (terms_id bigint, period_start date, period_end date, amount numeric)
LANGUAGE sql STABLE ROWS 24 AS $$
  SELECT t.id, p.begins, least(p.ends, t.superseded_on), t.price
  FROM (SELECT st.*, lead(st.starts_on) OVER (ORDER BY st.starts_on) AS superseded_on
        FROM checkout_subscriptionterms st WHERE st.subscription_id = subscription) t
  CROSS JOIN LATERAL (SELECT (t.interval_count || ' ' || t.interval)::interval AS length) one
  CROSS JOIN LATERAL (SELECT age(until, t.anchor) AS elapsed) since
  CROSS JOIN LATERAL generate_series(0, CASE t.interval
      WHEN 'week' THEN (until - t.anchor) / 7
      WHEN 'month' THEN (extract(year FROM elapsed) * 12 + extract(month FROM elapsed))::integer + 1
      ELSE extract(year FROM elapsed)::integer + 1
    END / t.interval_count) AS k
  CROSS JOIN LATERAL (SELECT (t.anchor + k * one.length)::date AS begins,
                             (t.anchor + (k + 1) * one.length)::date AS ends) p
  WHERE p.begins >= t.starts_on AND p.begins <= until
    AND (t.superseded_on IS NULL OR p.begins < t.superseded_on)
$$;
DROP FUNCTION settlements_periods(uuid, date, date);
