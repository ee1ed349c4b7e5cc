DROP TRIGGER settlements_version_kept ON settlements_settlementschedule;
DROP FUNCTION settlements_version_kept();
DROP TRIGGER settlements_both_anchors ON settlements_settlementschedule;
DROP TRIGGER settlements_both_anchors ON settlements_routeschedule;
DROP FUNCTION settlements_both_anchors();
ALTER TABLE settlements_settlementschedule
  DROP COLUMN anchor_days, DROP COLUMN calendar, ALTER COLUMN anchor_day DROP DEFAULT;
ALTER TABLE settlements_routeschedule
  DROP COLUMN anchor_days, DROP COLUMN calendar, ALTER COLUMN anchor_day DROP DEFAULT;
DROP FUNCTION settlements_anchors_of(text, smallint);
DROP FUNCTION settlements_anchors_fit(text, smallint[]);
