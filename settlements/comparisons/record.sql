-- Found again is the same row; found after it was cleared, it is open again (R54).
INSERT INTO settlements_discrepancy AS d
  (fingerprint, kind, code, key, charge_id, creator_id, lane, expected, actual, difference,
   explanation, detail, opened_at, last_seen_at, cleared_because, first_run_id)
SELECT f.fingerprint, f.kind, f.code, f.key, c.id, k.id, f.lane, f.expected, f.actual,
       f.actual - f.expected, left(f.explanation, 500), f.detail, %(now)s, %(now)s, '', %(run)s
FROM reconcile_found f
-- A row that was deleted behind the service is still named, by its key and in the sentence.
LEFT JOIN checkout_charge c ON c.id = f.charge_id
LEFT JOIN checkout_creator k ON k.id = f.creator_id
ON CONFLICT (fingerprint) DO UPDATE SET
  key = EXCLUDED.key, lane = EXCLUDED.lane, expected = EXCLUDED.expected,
  actual = EXCLUDED.actual, difference = EXCLUDED.difference,
  explanation = EXCLUDED.explanation, detail = d.detail || EXCLUDED.detail,
  last_seen_at = EXCLUDED.last_seen_at,
  opened_at = CASE WHEN d.cleared_at IS NULL THEN d.opened_at ELSE EXCLUDED.opened_at END,
  cleared_at = NULL, cleared_because = ''
