-- The fingerprint holds no amount: the same fault with another amount is the same case. An amount that no
-- column has room for, a sum of what a hand wrote, is as large as may be; the sentence says how much it is.
INSERT INTO reconcile_found (fingerprint, kind, code, key, charge_id, creator_id, lane, expected,
                             actual, explanation)
SELECT concat_ws(':', %(kind)s, code, subject), %(kind)s, code, key, charge_id, creator_id, lane,
       least(greatest(expected, -room.usd), room.usd), least(greatest(actual, -room.usd), room.usd),
       explanation
FROM (
{comparison}
) found
CROSS JOIN (SELECT 499999999999.99 AS usd) room
ON CONFLICT DO NOTHING
