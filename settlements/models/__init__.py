"""The tables of settlements: what proves each cent, and what does not agree."""

from decimal import Decimal
from typing import Final

from settlements.models.arrivals import FileState, StatementFile, StatementUpload
from settlements.models.banking import (
    BankEntry,
    BankExpectation,
    BankStatement,
    BankTerms,
    Side,
)
from settlements.models.books import BooksClose, CarriedOver, Span, books_digest
from settlements.models.captures import Capture, ProofState
from settlements.models.desk import (
    ActionKind,
    Decision,
    DeskAction,
    Proposal,
    ProposalItem,
    Way,
    digest_of,
    payout_at_the_bank,
    ways_of,
)
from settlements.models.discrepancies import (
    ABOUT_FILES,
    NAMED_AS_FILES,
    OF_A_DAY,
    STANDING,
    Code,
    Discrepancy,
    Kind,
    ReconciliationRun,
    RunMode,
)
from settlements.models.exports import (
    LONGEST_QUERY,
    ExportForm,
    ExportRun,
    ExportState,
    ExportWhat,
)
from settlements.models.marks import (
    DirtyKind,
    ReconcileDirty,
    Rewriting,
    TopicProgress,
    TopicRecord,
)
from settlements.models.matches import BELIEVED, MatchedAttempt, MatchedLine
from settlements.models.payouts import (
    SUMS,
    GatheredStatement,
    Payout,
    PayoutCredit,
    PayoutPart,
    ProofMark,
)
from settlements.models.schedules import (
    Holiday,
    HolidayRule,
    RouteSchedule,
    ScheduleInterval,
    SettlementSchedule,
)
from settlements.models.settlements import (
    TOTALS,
    LineKind,
    OpenPeriod,
    Settlement,
    SettlementLine,
)
from settlements.models.statements import (
    Covers,
    ExpectationState,
    FeeTerms,
    ImportState,
    LineType,
    StatementExpectation,
    StatementImport,
    StatementLine,
    StatementTerms,
)
from settlements.models.telling import (
    Notice,
    NoticeDelivery,
    NoticeItem,
    NoticeKind,
    WayName,
)

NOTHING: Final = Decimal("0.00")

__all__ = [
    "ABOUT_FILES",
    "BELIEVED",
    "LONGEST_QUERY",
    "NAMED_AS_FILES",
    "NOTHING",
    "OF_A_DAY",
    "STANDING",
    "SUMS",
    "TOTALS",
    "ActionKind",
    "BankEntry",
    "BankExpectation",
    "BankStatement",
    "BankTerms",
    "BooksClose",
    "Capture",
    "CarriedOver",
    "Code",
    "Covers",
    "Decision",
    "DeskAction",
    "DirtyKind",
    "Discrepancy",
    "ExpectationState",
    "ExportForm",
    "ExportRun",
    "ExportState",
    "ExportWhat",
    "FeeTerms",
    "FileState",
    "GatheredStatement",
    "Holiday",
    "HolidayRule",
    "ImportState",
    "Kind",
    "LineKind",
    "LineType",
    "MatchedAttempt",
    "MatchedLine",
    "Notice",
    "NoticeDelivery",
    "NoticeItem",
    "NoticeKind",
    "OpenPeriod",
    "Payout",
    "PayoutCredit",
    "PayoutPart",
    "ProofMark",
    "ProofState",
    "Proposal",
    "ProposalItem",
    "ReconcileDirty",
    "ReconciliationRun",
    "Rewriting",
    "RouteSchedule",
    "RunMode",
    "ScheduleInterval",
    "Settlement",
    "SettlementLine",
    "SettlementSchedule",
    "Side",
    "Span",
    "StatementExpectation",
    "StatementFile",
    "StatementImport",
    "StatementLine",
    "StatementTerms",
    "StatementUpload",
    "TopicProgress",
    "TopicRecord",
    "Way",
    "WayName",
    "books_digest",
    "digest_of",
    "payout_at_the_bank",
    "ways_of",
]
