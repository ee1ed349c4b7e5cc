-- Each file's payout as its lines have it, and the bank's credit of it.
INSERT INTO settlements_statementline (statement_id, number, key, line_id, type, reference,
  processor_reference, booked_at, gross, fee, net, currency, payout)
SELECT f.id, 1, md5('payout' || f.id)::uuid, 'po', 'payout', '', '',
       f.first_day::timestamp AT TIME ZONE 'UTC' + interval '23 hours', -sum(l.net), 0.00,
       -sum(l.net), 'USD', l.payout
FROM settlements_statementimport f JOIN settlements_statementline l ON l.statement_id = f.id
GROUP BY f.id, l.payout;
INSERT INTO settlements_payout (processor, lane, reference, value_on, gross, refunds, disputes,
  adjustments, reserve, fees, net, paid, line_count, landed_on)
SELECT f.processor, f.lane, l.payout, f.first_day, sum(l.gross) FILTER (WHERE l.type = 'charge'), 0, 0,
       0, 0, -sum(l.fee), sum(l.net) FILTER (WHERE l.type = 'charge'),
       -sum(l.net) FILTER (WHERE l.type = 'payout'), count(*) - 1, f.first_day
FROM settlements_statementimport f JOIN settlements_statementline l ON l.statement_id = f.id
GROUP BY f.id, l.payout;
INSERT INTO settlements_payoutpart (payout_id, statement_id, gross, refunds, disputes, adjustments,
  reserve, fees, net, paid, line_count)
SELECT p.id, f.id, gross, refunds, disputes, adjustments, reserve, fees, net, paid, p.line_count
FROM settlements_payout p
JOIN settlements_statementimport f ON f.lane = p.lane AND f.first_day = p.value_on;
INSERT INTO settlements_gatheredstatement (statement_id) SELECT id FROM settlements_statementimport;
INSERT INTO settlements_bankstatement (account, statement_id, version, first_day, last_day, opening,
  closing, movement, entry_count, not_booked, file_name, sha256, position, state, reason,
  imported_by, imported_at, accepted_at)
SELECT 'DE89370400440532013000', 'crowd', 'camt.053.001.08', min(value_on), max(value_on), 0.00,
       sum(paid), sum(paid), count(*), 0, 'crowd.xml', md5('bank'), 1, 'accepted', '', 'crowd', now(),
       now()
FROM settlements_payout;
INSERT INTO settlements_bankentry (statement_id, number, booked_on, value_on, amount, side, currency,
  is_reversal, reference, entry_reference, end_to_end_id, code, counterparty, remittance, payments)
SELECT s.id, row_number() OVER (ORDER BY p.id), value_on, value_on, paid, 'CRDT', 'USD', false, '', '',
       reference, '', '', '', 1
FROM settlements_payout p, settlements_bankstatement s;
INSERT INTO settlements_payoutcredit (payout_id, entry_id)
SELECT p.id, e.id FROM settlements_payout p
JOIN settlements_bankentry e ON e.end_to_end_id = p.reference;
