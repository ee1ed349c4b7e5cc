-- What was looked at and no longer found is cleared by evidence, never deleted (R54). An incremental pass
-- looks at what it names; a full one at all that a creator has, and at all lines, of its slice.
UPDATE settlements_discrepancy d
SET cleared_at = %(now)s, cleared_because = 'evidence'
WHERE d.cleared_at IS NULL AND d.kind = ANY(%(kinds)s)
  AND NOT EXISTS (SELECT 1 FROM reconcile_found f WHERE f.fingerprint = d.fingerprint)
  AND (d.key IS NULL OR d.code = 'rewritten' OR CASE d.kind
    WHEN 'events' THEN EXISTS (SELECT 1 FROM reconcile_topic k WHERE k.key = d.key)
    WHEN 'statement' THEN EXISTS (SELECT 1 FROM reconcile_line k WHERE k.key = d.key)
      OR %(full)s AND d.key >= %(low)s AND (%(high)s::uuid IS NULL OR d.key < %(high)s)
    ELSE EXISTS (SELECT 1 FROM reconcile_charge k WHERE k.id = coalesce(d.charge_id, d.key))
      OR d.charge_id IS NULL AND EXISTS (SELECT 1 FROM reconcile_creator k WHERE k.id = d.key)
      OR %(full)s AND EXISTS (SELECT 1 FROM reconcile_creator k WHERE k.id = d.creator_id) END)
