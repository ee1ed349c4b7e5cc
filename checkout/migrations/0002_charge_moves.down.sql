DROP TRIGGER checkout_charge_guard ON checkout_charge;
DROP FUNCTION checkout_charge_guard();
DROP FUNCTION checkout_legal_move(text, text);
