DROP FUNCTION checkout_expected_amount(uuid, date);
DROP FUNCTION checkout_period_date(date, text, integer, integer);
