DROP TRIGGER settlements_never_deleted ON settlements_exportrun;
DROP TRIGGER settlements_export_guard ON settlements_exportrun;
DROP FUNCTION settlements_export_guard();
