CREATE OR REPLACE FUNCTION settlements_mark_day() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT 'days', jsonb_build_object('lane', lane, 'first', day, 'last', day)
    FROM became WHERE state = 'arrived';
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT 'days', jsonb_build_object('lane', lane, 'first', day, 'last', day)
    FROM was WHERE state = 'arrived';
  END IF;
  RETURN NULL;
END
$$;
