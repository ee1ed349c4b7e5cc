DROP TRIGGER settlements_resolution_guard ON settlements_discrepancy;
DROP FUNCTION settlements_resolution_guard();
DROP TRIGGER settlements_item_guard ON settlements_proposalitem;
DROP FUNCTION settlements_item_guard();
DROP TRIGGER settlements_proposal_guard ON settlements_proposal;
DROP FUNCTION settlements_proposal_guard();
DROP TRIGGER settlements_never_deleted ON settlements_proposalitem;
DROP TRIGGER settlements_never_deleted ON settlements_proposal;
DROP TRIGGER settlements_never_deleted ON settlements_deskaction;
