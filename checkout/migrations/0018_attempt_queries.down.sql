DROP TRIGGER checkout_never_emptied ON checkout_attemptquery;
DROP TRIGGER checkout_attempt_query_guard ON checkout_attemptquery;
DROP FUNCTION checkout_attempt_query_guard();
