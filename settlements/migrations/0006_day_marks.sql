-- A day that became covered, or stopped being so, makes every capture of it worth another look; so
-- does one that is no longer expected although captures of it are known.
CREATE OR REPLACE FUNCTION settlements_mark_day() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT 'days', jsonb_build_object('lane', lane, 'first', day, 'last', day)
    FROM became WHERE state = 'arrived';
  END IF;
  IF TG_OP = 'UPDATE' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT 'days', jsonb_build_object('lane', o.lane, 'first', o.day, 'last', o.day)
    FROM was o LEFT JOIN became n ON n.lane = o.lane AND n.day = o.day
    WHERE o.state = 'arrived' OR n.id IS NULL;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO reconcile_dirty (kind, detail)
    SELECT 'days', jsonb_build_object('lane', lane, 'first', day, 'last', day) FROM was;
  END IF;
  RETURN NULL;
END
$$;
