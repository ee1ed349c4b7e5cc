-- What was looked at and no longer found is cleared by evidence, never deleted (R54).
UPDATE settlements_discrepancy d
SET cleared_at = %(now)s, cleared_because = 'evidence'
WHERE d.cleared_at IS NULL AND d.kind = ANY(%(kinds)s)
  AND NOT EXISTS (SELECT 1 FROM reconcile_found f WHERE f.fingerprint = d.fingerprint)
  AND (d.key IS NULL OR d.code = 'rewritten'
       OR EXISTS (SELECT 1 FROM reconcile_creator k WHERE k.id = d.key)
       OR EXISTS (SELECT 1 FROM reconcile_line l WHERE l.key = d.key))
