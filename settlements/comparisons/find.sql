-- The fingerprint holds no amount: the same fault with another amount is the same case.
INSERT INTO reconcile_found (fingerprint, kind, code, key, charge_id, creator_id, lane, expected,
                             actual, explanation)
SELECT concat_ws(':', %(kind)s, code, subject), %(kind)s, code, key, charge_id, creator_id, lane,
       expected, actual, explanation
FROM (
{comparison}
) found
ON CONFLICT DO NOTHING
