-- The attempt that a line names by our own reference, in either case, as `statements.py` gives a charge
-- line its key; none of any other text. One rule for what is settled, and for what is booked.
CREATE FUNCTION settlements_named_attempt(reference text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN reference ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
              THEN reference::uuid END
$$;
-- Beside settlements_line_reference, by which the version before finds them while it still runs.
CREATE INDEX settlements_line_named ON settlements_statementline (settlements_named_attempt(reference))
WHERE type IN ('refund', 'dispute', 'dispute_fee', 'reversal', 'fee', 'adjustment');
