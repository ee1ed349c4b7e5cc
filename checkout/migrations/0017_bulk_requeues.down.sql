DROP TRIGGER checkout_bulkrequeue_whole ON checkout_bulkrequeueitem;
DROP FUNCTION checkout_bulkrequeue_whole();
DROP TRIGGER checkout_bulkrequeueitem_guard ON checkout_bulkrequeueitem;
DROP FUNCTION checkout_bulkrequeueitem_guard();
DROP TRIGGER checkout_bulkrequeue_guard ON checkout_bulkrequeue;
DROP FUNCTION checkout_bulkrequeue_guard();
