DROP TRIGGER settlements_bank_terms_zone ON settlements_bankterms;
DROP FUNCTION settlements_bank_terms_zone();
DROP TRIGGER settlements_never_deleted ON settlements_bankexpectation;
DROP TRIGGER settlements_bank_day_kept ON settlements_bankexpectation;
DROP FUNCTION settlements_bank_day_kept();
DROP FUNCTION settlements_note_bank_days(text);
DROP FUNCTION settlements_bank_due(date, text, int, time, text);
DROP FUNCTION settlements_is_business_day(date, text);
