DROP TRIGGER dirty_update ON settlements_discrepancy;
DROP TRIGGER dirty_delete ON settlements_discrepancy;
DROP FUNCTION settlements_mark_discrepancy();
