DROP TRIGGER checkout_posting_balances ON checkout_ledgerposting;
DROP TRIGGER checkout_entry_balances ON checkout_ledgerentry;
DROP FUNCTION checkout_entry_balances();
