-- A group role; a place's own login role is made a member of it. Roles belong to the cluster, so it
-- may exist already, and a migrating role that may not create roles leaves that to an operator.
DO $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    CREATE ROLE checkout_app NOLOGIN;
  END IF;
EXCEPTION
  WHEN insufficient_privilege THEN
    RAISE NOTICE 'the role checkout_app does not exist and may not be created here';
  WHEN duplicate_object OR unique_violation THEN
    NULL;  -- two databases of one cluster are migrated at the same time
END
$$;

DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'checkout_app') THEN
    GRANT USAGE ON SCHEMA public TO checkout_app;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO checkout_app;
    GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO checkout_app;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public
      GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO checkout_app;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO checkout_app;
    REVOKE UPDATE, DELETE, TRUNCATE ON checkout_ledgerentry, checkout_ledgerposting
      FROM checkout_app;
    REVOKE DELETE ON checkout_charge, checkout_attempt, checkout_case FROM checkout_app;
  END IF;
END
$$;
