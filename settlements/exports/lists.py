"""What may be exported: each list, by its name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from settlements.exports import charge_lists, decision_lists, file_lists
from settlements.exports.export_list import ExportList

LISTS: Final[Mapping[str, ExportList]] = MappingProxyType(
    {
        each.name: each
        for each in (
            charge_lists.CHARGES,
            charge_lists.ATTEMPTS,
            charge_lists.CAPTURES,
            charge_lists.LEDGER_ENTRIES,
            file_lists.STATEMENTS,
            file_lists.STATEMENT_LINES,
            file_lists.PAYOUTS,
            file_lists.BANK_STATEMENTS,
            file_lists.BANK_ENTRIES,
            file_lists.SETTLEMENTS,
            file_lists.SETTLEMENT_LINES,
            decision_lists.DISCREPANCIES,
            decision_lists.PROPOSALS,
            decision_lists.DESK_ACTIONS,
            decision_lists.CASES,
            decision_lists.HOLDS,
            decision_lists.BULK_REQUEUES,
            decision_lists.CLOSES,
            decision_lists.AUDIT_TRAIL,
        )
    }
)


class UnknownList(Exception):
    """There is no list of this name."""


def named(name: str) -> ExportList:
    """The list of this name; raises UnknownList, which names all."""
    if name not in LISTS:
        raise UnknownList(f"there is no list {name!r}; there are {', '.join(LISTS)}")
    return LISTS[name]
