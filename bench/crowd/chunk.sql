-- Creators from `low` up to, not including, `high`: so many months each, every one billed, captured, booked,
-- published, settled and stated. Every `apart`-th charge (0: none) has one of five faults in its turn.
CREATE TEMPORARY TABLE crowd ON COMMIT DROP AS
SELECT x.*, (anchor + k * interval '1 month')::date AS begins,
       (anchor + (k + 1) * interval '1 month')::date AS ends,
       (anchor + k * interval '1 month') AT TIME ZONE 'UTC' + interval '8 hours'
         + n %% 3600 * interval '1 second' AS booked_at,
       price - CASE fault WHEN 'short capture' THEN 0.03 ELSE 0.00 END AS captured
FROM (
  SELECT m * %(months)s + k AS n, m, k, md5('creator' || m)::uuid AS creator_id,
         md5('subscription' || m)::uuid AS subscription_id,
         md5('instrument' || m)::uuid AS instrument_id,
         md5('charge' || m * %(months)s + k)::uuid AS charge_id,
         md5('attempt' || m * %(months)s + k)::uuid AS attempt_id,
         md5('billed' || m * %(months)s + k)::uuid AS billed_id,
         md5('booked' || m * %(months)s + k)::uuid AS booked_id,
         md5('settlement' || m)::uuid AS settlement_id,
         (4.99 + 5 * (m %% 4))::numeric(14, 2) AS price,
         CASE m %% 2 WHEN 0 THEN 'cis' ELSE 'mena' END AS lane,
         (%(today)s::date - 1 - (%(months)s - 1) * interval '1 month')::date - m %% 26 AS anchor,
         CASE WHEN %(apart)s > 0 AND (m * %(months)s + k) %% greatest(%(apart)s, 1) = 0
              THEN (ARRAY['short line', 'no line', 'line twice', 'foreign line', 'short capture'])
                   [1 + (m * %(months)s + k) / greatest(%(apart)s, 1) %% 5]
              ELSE '' END AS fault
  FROM generate_series(%(low)s::int, %(high)s::int - 1) m, generate_series(0, %(months)s - 1) k
) x;
ANALYZE crowd;
INSERT INTO checkout_creator (id, account_id, external_id, name, email, country, time_zone,
                              event_seq, created_at)
SELECT creator_id, md5('crowd')::uuid, 'crowd-' || m, 'Crowd', 'crowd@example.com', 'KZ', 'UTC',
       %(months)s,        begins FROM crowd WHERE k = 0;
INSERT INTO checkout_instrument (id, creator_id, token, created_at, dead_reason)
SELECT instrument_id, creator_id, 'tok_' || m, begins, '' FROM crowd WHERE k = 0;
INSERT INTO checkout_subscription (id, creator_id, state, time_zone, started_at, next_period_start,
                                   next_billing_at)
SELECT subscription_id, creator_id, 'active', 'UTC', anchor::timestamp AT TIME ZONE 'UTC', ends,
       ends::timestamp AT TIME ZONE 'UTC' FROM crowd WHERE k = %(months)s - 1;
INSERT INTO checkout_subscriptionterms (subscription_id, plan_id, price, currency, interval,
                                        interval_count, anchor, starts_on, created_at)
SELECT subscription_id, 'crowd-' || m %% 4, price, 'USD', 'month', 1, anchor, anchor, begins
FROM crowd WHERE k = 0;
INSERT INTO checkout_charge (id, creator_id, subscription_id, terms_id, period_start, period_end,
  amount, expected_amount, currency, billed_at, created_at, lane, state, round, step, dispatch,
  void_requested, awaits, last_seen_at, sweeps)
SELECT c.charge_id, c.creator_id, c.subscription_id, t.id, c.begins, c.ends, c.price, c.price, 'USD',
       c.begins, c.begins, c.lane, 'succeeded', 1, 0, 1, false, '', c.booked_at, 0
FROM crowd c JOIN checkout_subscriptionterms t ON t.subscription_id = c.subscription_id;
INSERT INTO checkout_attempt (id, charge_id, creator_id, instrument_id, kind, lane, round, number,
  sends, amount, currency, outcome, verdict, decline_class, decline_code, doubt, captured_amount,
  captured_currency, processor_reference, started_at, last_sent_at, ended_at, booked_at, queries,
  not_found)
SELECT attempt_id, charge_id, creator_id, instrument_id, 'off_session', lane, 1, 1, 1, price, 'USD',
       'captured', '', '', '', '', captured, 'USD', 'sbx_' || n, booked_at, booked_at, booked_at,
       booked_at, 0, 0
FROM crowd;
INSERT INTO checkout_ledgerentry (id, kind, charge_id, attempt_id, posted_at)
SELECT billed_id, 'billed', charge_id, NULL, begins FROM crowd
UNION ALL SELECT booked_id, 'captured', charge_id, attempt_id, booked_at FROM crowd;
INSERT INTO checkout_ledgerposting (entry_id, account, lane, creator_id, charge_id, amount)
SELECT x.entry_id, x.account, x.lane, c.creator_id, c.charge_id, x.amount
FROM crowd c CROSS JOIN LATERAL (VALUES
  (billed_id, 'receivable', '', price), (billed_id, 'revenue', '', -price),
  (booked_id, 'clearing', c.lane, captured), (booked_id, 'receivable', '', -captured)
) x(entry_id, account, lane, amount);
INSERT INTO checkout_outboxmessage (event_id, door, key, event_seq, type, subject, payload,
                                    payload_sha256, created_at, available_at)
SELECT md5('event' || n)::uuid, 'kafka', creator_id, k + 1, 'charge.succeeded', charge_id, said,
       encode(sha256(convert_to(said, 'UTF8')), 'hex'), booked_at, booked_at
FROM crowd CROSS JOIN LATERAL (SELECT format(
  '{"charge_id":"%%s","creator_id":"%%s","amount":"%%s","currency":"USD","state":"succeeded"}',
  charge_id, creator_id, price) AS said) payload;
INSERT INTO checkout_publishedmessage (message_id, door, published_at, kafka_partition, kafka_offset,
                                       seen_at)
SELECT o.id, 'kafka', now() - interval '1 hour', 0, c.n, now()
FROM crowd c JOIN checkout_outboxmessage o ON o.event_id = md5('event' || n)::uuid;
DELETE FROM checkout_pendingmessage p USING crowd c, checkout_outboxmessage o
WHERE o.event_id = md5('event' || n)::uuid AND p.message_id = o.id;
INSERT INTO settlements_topicrecord (partition, "offset", event_id, key, sequence, sha256, read_at)
SELECT 0, c.n, o.event_id, o.key, o.event_seq, o.payload_sha256, now()
FROM crowd c JOIN checkout_outboxmessage o ON o.event_id = md5('event' || n)::uuid;
INSERT INTO settlements_statementline (statement_id, number, key, line_id, type, reference,
  processor_reference, booked_at, gross, fee, net, currency, payout)
SELECT f.id, c.n * 3 + x.place, x.key, 'ln_' || n || '_' || x.place, 'charge', x.key, 'sbx_' || n,
       c.booked_at, x.gross, fee, x.gross - fee, 'USD', 'po_' || c.lane || '_' || f.first_day
FROM crowd c
JOIN settlements_statementimport f
  ON f.lane = c.lane AND f.first_day = (c.booked_at AT TIME ZONE 'UTC')::date
CROSS JOIN LATERAL (SELECT round(captured * 0.029 + 0.30, 2) AS fee) agreed
CROSS JOIN LATERAL (
  SELECT 2 AS place, attempt_id AS key,
         captured - CASE fault WHEN 'short line' THEN 0.01 ELSE 0.00 END AS gross
  WHERE fault <> 'no line'
  UNION ALL SELECT 3, attempt_id, captured WHERE fault = 'line twice'
  UNION ALL SELECT 4, md5('foreign' || n)::uuid, captured WHERE fault = 'foreign line'
) x;
INSERT INTO settlements_settlementschedule (creator_id, version, lane, interval, anchor_days,
  delay_days, holiday_rule, calendar, source, active_from, created_at)
SELECT creator_id, 1, lane, 'month', '{1}', 2, 'following', 'federal-reserve', 'crowd', anchor, begins
FROM crowd WHERE k = 0;
INSERT INTO settlements_settlement (id, creator_id, schedule_id, period_start, period_end, lands_on,
  charged, unapplied, refunded, disputed, fees, adjusted, net, line_count, closed_at)
SELECT c.settlement_id, c.creator_id, s.id, min(c.anchor), max(c.ends), max(c.ends) + 2,
       sum(c.captured), 0, 0, 0, 0, 0, sum(c.captured), %(months)s, now()
FROM crowd c JOIN settlements_settlementschedule s ON s.creator_id = c.creator_id
GROUP BY c.settlement_id, c.creator_id, s.id;
INSERT INTO settlements_settlementline (settlement_id, kind, attempt_id, charge_id, lane, occurred_at,
                                        amount)
SELECT settlement_id, 'charge', attempt_id, charge_id, lane, booked_at, captured FROM crowd;
INSERT INTO crowd_fault (fault, creator_id, charge_id, attempt_id, captured, foreign_key)
SELECT fault, creator_id, charge_id, attempt_id, captured, md5('foreign' || n)::uuid
FROM crowd WHERE fault <> '';
DROP TABLE crowd;
-- Nothing has changed since: the passes begin from here.
TRUNCATE reconcile_dirty, settlements_proofmark;
