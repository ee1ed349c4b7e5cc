-- What every creator of the crowd needs: plans, two lanes, a file a day for each, all arrived.
INSERT INTO checkout_account (id, name, created_at)
VALUES (md5('crowd')::uuid, 'crowd', now());
INSERT INTO checkout_plan (code, name, price, currency, interval, interval_count)
SELECT 'crowd-' || p, 'Crowd ' || p, 4.99 + 5 * p, 'USD', 'month', 1 FROM generate_series(0, 3) p;
INSERT INTO settlements_feeterms (lane, valid_from, rate, fixed)
SELECT lane, %(today)s::date - 400, 0.029, 0.30 FROM unnest(ARRAY['cis', 'mena']) lane;
INSERT INTO settlements_statementimport (
  processor, lane, format, file_name, sha256, first_day, last_day, opening, closing,
  balances_stated, movement, line_count, state, reason, imported_by, imported_at, accepted_at)
SELECT 'sandbox', lane, 'processor-csv', lane || '-' || day::date || '.csv',
       encode(sha256(convert_to(lane || day, 'UTF8')), 'hex'), day::date, day::date, 0.00, 0.00,
       true, 0.00, 0, 'accepted', '', 'crowd', now(), now()
FROM unnest(ARRAY['cis', 'mena']) lane,
     generate_series(%(today)s::date - 200, %(today)s::date - 1, interval '1 day') day;
INSERT INTO settlements_statementexpectation (lane, day, time_zone, due_at, state, statement_id)
SELECT lane, first_day, 'UTC', (first_day + 1)::timestamp AT TIME ZONE 'UTC', 'arrived', id
FROM settlements_statementimport;
INSERT INTO settlements_topicprogress (partition, first_offset, next_offset, read_at)
VALUES (0, 0, %(charges)s, now());
