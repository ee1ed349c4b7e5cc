DROP TRIGGER checkout_attempt_guard ON checkout_attempt;
DROP TRIGGER checkout_attempt_begins ON checkout_attempt;
DROP FUNCTION checkout_attempt_guard();
DROP FUNCTION checkout_attempt_begins();
