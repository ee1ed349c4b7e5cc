DROP TRIGGER kept_delete ON settlements_booking;
DROP TRIGGER kept_update ON settlements_booking;
DROP TRIGGER settlements_never_deleted ON settlements_booking;
