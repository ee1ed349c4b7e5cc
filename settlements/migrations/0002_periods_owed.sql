-- Independent of checkout's own calendar on purpose: two computations that must agree (DESIGN 6).

CREATE FUNCTION settlements_usd(amount numeric) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT to_char(amount, 'FM999999999990.00')
$$;

-- 'Under-charge of 0.03 USD' or 'Surplus of 0.03 USD', whichever it is.
CREATE FUNCTION settlements_difference(owed numeric, actual numeric) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN actual < owed THEN 'Under-charge of ' ELSE 'Surplus of ' END
    || settlements_usd(abs(actual - owed)) || ' USD'
$$;

-- The first instant of a day in a zone. Where midnight comes twice (autumn) it is the first of the
-- two; where it never comes (spring) it is the moment the day begins on the wall.
CREATE FUNCTION settlements_day_start(day date, zone text) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN ((midnight - interval '1 hour') AT TIME ZONE zone)::date = day
              THEN midnight - interval '1 hour' ELSE midnight END
  FROM (SELECT day::timestamp AT TIME ZONE zone AS midnight) m
$$;

-- Every period of a subscription that begins on or before a day, each from its terms' anchor.
CREATE FUNCTION settlements_periods(subscription uuid, until date)
RETURNS TABLE (terms_id bigint, period_start date, period_end date, amount numeric)
LANGUAGE sql STABLE ROWS 24 AS $$
  SELECT t.id, p.begins, least(p.ends, t.superseded_on), t.price
  FROM (SELECT st.*, lead(st.starts_on) OVER (ORDER BY st.starts_on) AS superseded_on
        FROM checkout_subscriptionterms st WHERE st.subscription_id = subscription) t
  CROSS JOIN LATERAL (SELECT (t.interval_count || ' ' || t.interval)::interval AS length) one
  CROSS JOIN LATERAL (SELECT age(until, t.anchor) AS elapsed) since
  CROSS JOIN LATERAL generate_series(0, CASE t.interval
      WHEN 'week' THEN (until - t.anchor) / 7
      WHEN 'month' THEN (extract(year FROM elapsed) * 12 + extract(month FROM elapsed))::integer + 1
      ELSE extract(year FROM elapsed)::integer + 1
    END / t.interval_count) AS k
  CROSS JOIN LATERAL (SELECT (t.anchor + k * one.length)::date AS begins,
                             (t.anchor + (k + 1) * one.length)::date AS ends) p
  WHERE p.begins >= t.starts_on AND p.begins <= until
    AND (t.superseded_on IS NULL OR p.begins < t.superseded_on)
$$;
