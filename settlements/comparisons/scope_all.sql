-- A slice of every creator.
INSERT INTO reconcile_creator
SELECT id FROM checkout_creator
WHERE id >= %(low)s AND (%(high)s::uuid IS NULL OR id < %(high)s);
