-- Period k begins at anchor + k intervals, counted from the anchor, so that the 31st comes back (R11).
CREATE FUNCTION checkout_period_date(anchor date, unit text, units integer, k integer)
RETURNS date LANGUAGE sql IMMUTABLE AS $$
  SELECT (anchor + CASE unit
    WHEN 'week' THEN make_interval(weeks => units * k)
    WHEN 'month' THEN make_interval(months => units * k)
    WHEN 'year' THEN make_interval(years => units * k)
  END)::date
$$;

-- The price of the terms in force on the day, or NULL when no period of theirs begins on it.
CREATE FUNCTION checkout_expected_amount(subscription uuid, begins date)
RETURNS numeric LANGUAGE sql STABLE AS $$
  SELECT t.price
  FROM (SELECT * FROM checkout_subscriptionterms
        WHERE subscription_id = subscription AND starts_on <= begins
        ORDER BY starts_on DESC LIMIT 1) t
  CROSS JOIN LATERAL (SELECT CASE t.interval
      WHEN 'week' THEN (begins - t.anchor) / (7 * t.interval_count)
      WHEN 'month' THEN ((extract(year FROM begins) - extract(year FROM t.anchor)) * 12
          + extract(month FROM begins) - extract(month FROM t.anchor))::integer / t.interval_count
      WHEN 'year' THEN (extract(year FROM begins) - extract(year FROM t.anchor))::integer
          / t.interval_count
    END AS k) calendar
  WHERE checkout_period_date(t.anchor, t.interval, t.interval_count, calendar.k) = begins
$$;
