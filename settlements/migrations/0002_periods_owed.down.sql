DROP FUNCTION settlements_periods(uuid, date);
DROP FUNCTION settlements_day_start(date, text);
DROP FUNCTION settlements_difference(numeric, numeric);
DROP FUNCTION settlements_usd(numeric);
