-- Found again is the same row; found after it was cleared, it is open again (R54).
INSERT INTO settlements_discrepancy AS d
  (fingerprint, kind, code, key, charge_id, creator_id, lane, expected, actual, difference,
   explanation, detail, opened_at, last_seen_at, cleared_because, first_run_id)
SELECT f.fingerprint, f.kind, f.code,
       CASE WHEN c.id IS NULL AND f.kind <> 'statement' THEN coalesce(f.charge_id, f.key)
            ELSE f.key END, c.id, k.id, f.lane, f.expected, f.actual,
       f.actual - f.expected, left(coalesce(f.explanation, f.code), 500), f.detail, %(now)s, %(now)s, '', %(run)s
FROM reconcile_found f
-- A charge that was deleted behind the service is still named, by the key and in the sentence.
LEFT JOIN checkout_charge c ON c.id = f.charge_id
LEFT JOIN checkout_creator k ON k.id = f.creator_id
ON CONFLICT (fingerprint) DO UPDATE SET
  key = EXCLUDED.key, charge_id = EXCLUDED.charge_id, creator_id = EXCLUDED.creator_id,
  lane = EXCLUDED.lane, expected = EXCLUDED.expected,
  actual = EXCLUDED.actual, difference = EXCLUDED.difference,
  explanation = EXCLUDED.explanation, detail = d.detail || EXCLUDED.detail,
  last_seen_at = EXCLUDED.last_seen_at,
  opened_at = CASE WHEN d.cleared_at IS NULL THEN d.opened_at ELSE EXCLUDED.opened_at END,
  cleared_at = NULL, cleared_because = '';
-- The version before looked at a line's discrepancy by its creator. To be dropped with the next version.
UPDATE settlements_discrepancy SET key = split_part(fingerprint, ':', 3)::uuid
WHERE kind = 'statement' AND cleared_at IS NULL AND key = creator_id
  AND fingerprint ~ '^statement:[a-z_]+:[0-9a-f-]{36}$'
