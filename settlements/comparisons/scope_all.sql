-- A slice of every creator, and of every line that fits no capture or is about something else.
INSERT INTO reconcile_creator
SELECT id FROM checkout_creator
WHERE id >= %(low)s AND (%(high)s::uuid IS NULL OR id < %(high)s);
INSERT INTO reconcile_line
SELECT l.key FROM settlements_statementline l
LEFT JOIN checkout_attempt a
  ON a.id = l.key AND a.id >= %(low)s AND (%(high)s::uuid IS NULL OR a.id < %(high)s)
WHERE l.key >= %(low)s AND (%(high)s::uuid IS NULL OR l.key < %(high)s)
  AND (l.type <> 'charge' OR a.id IS NULL)
UNION
-- A line that was found, whatever became of it.
SELECT key FROM settlements_discrepancy
WHERE kind = 'statement' AND cleared_at IS NULL
  AND key >= %(low)s AND (%(high)s::uuid IS NULL OR key < %(high)s);
