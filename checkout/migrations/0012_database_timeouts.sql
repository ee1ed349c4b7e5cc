-- On the database, not in the sessions: behind a pooler in transaction mode what a session sets is lost or
-- leaks to another client. New sessions follow it; a place may set other values for its own login role.
DO $$
BEGIN
  -- Nobody calls a network with a transaction open, so one that idles belongs to a process that hangs or was
  -- suspended; it holds a creator's lock. As long as a worker's hard limit (R32).
  EXECUTE format('ALTER DATABASE %I SET idle_in_transaction_session_timeout = ''120s''', current_database());
EXCEPTION
  WHEN insufficient_privilege THEN
    RAISE NOTICE 'the time-outs of this database may not be set by this role';
END
$$;

DO $$
BEGIN
  -- A client that gave up on a statement has closed its connection: the statement ends, and its locks with it.
  EXECUTE format('ALTER DATABASE %I SET client_connection_check_interval = ''2s''', current_database());
EXCEPTION
  WHEN insufficient_privilege OR invalid_parameter_value THEN
    RAISE NOTICE 'the server cannot look whether its clients are still there';
END
$$;
