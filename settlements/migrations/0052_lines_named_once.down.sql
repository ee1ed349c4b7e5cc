DROP INDEX settlements_line_named;
DROP FUNCTION settlements_named_attempt(text);
