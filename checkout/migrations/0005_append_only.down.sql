DROP TRIGGER checkout_message_guard ON checkout_outboxmessage;
DROP FUNCTION checkout_message_guard();
DROP TRIGGER checkout_never_emptied ON checkout_ledgerposting;
DROP TRIGGER checkout_never_emptied ON checkout_ledgerentry;
DROP TRIGGER checkout_append_only ON checkout_ledgerposting;
DROP TRIGGER checkout_append_only ON checkout_ledgerentry;
DROP FUNCTION checkout_append_only();
