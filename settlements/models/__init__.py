"""The tables of settlements: what proves each cent, and what does not agree."""

from decimal import Decimal
from typing import Final

from settlements.models.discrepancies import Code, Discrepancy, Kind, ReconciliationRun, RunMode
from settlements.models.marks import DirtyKind, ReconcileDirty, TopicProgress, TopicRecord
from settlements.models.schedules import (
    HolidayRule,
    RouteSchedule,
    ScheduleInterval,
    SettlementSchedule,
)
from settlements.models.statements import (
    ExpectationState,
    FeeTerms,
    ImportState,
    LineType,
    StatementExpectation,
    StatementImport,
    StatementLine,
)

NOTHING: Final = Decimal("0.00")

__all__ = [
    "NOTHING",
    "Code",
    "DirtyKind",
    "Discrepancy",
    "ExpectationState",
    "FeeTerms",
    "HolidayRule",
    "ImportState",
    "Kind",
    "LineType",
    "ReconcileDirty",
    "ReconciliationRun",
    "RouteSchedule",
    "RunMode",
    "ScheduleInterval",
    "SettlementSchedule",
    "StatementExpectation",
    "StatementImport",
    "StatementLine",
    "TopicProgress",
    "TopicRecord",
]
