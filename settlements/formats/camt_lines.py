"""A processor's statement written as camt.053: its entries as lines.

Some processors keep an account for us and write its statement as a bank would. What an entry is, its
ISO bank transaction code says; a code that is not in the table sets the file aside, to be looked at.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time
from typing import Final
from uuid import UUID

from settlements.formats.camt import CREDIT, Entry, Statement, looks_like, read_statements
from settlements.formats.lines import LONGEST_TYPE, BadRow, Frame, Item, Line, Told
from settlements.models import NOTHING, LineType

__all__ = ["NAME", "looks_like", "read"]

NAME: Final = "camt.053"
# The last part of a code that means a fee, in whichever family: charges, commission, fees.
FEES: Final = frozenset({"CHRG", "COMM", "FEES", "COMT", "COME"})
# Domain/family → what a credit is, what a debit is. Card money in and back, money out to our bank.
FAMILIES: Final = {
    "PMNT/MCRD": (LineType.CHARGE, LineType.REFUND),
    "PMNT/CCRD": (LineType.CHARGE, LineType.REFUND),
    "PMNT/ICDT": (LineType.REVERSAL, LineType.PAYOUT),
}
# The attempt's UUID without its dashes: an EndToEndId holds 35 characters, the dashed one has 36.
_BARE_ID: Final = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)


def read(chunks: Iterable[bytes], told: Told) -> Iterator[Item]:
    """The booked entries as lines without a fee of their own, and the statement's frame."""
    for item in read_statements(chunks):
        if isinstance(item, Entry):
            yield _line(item, told)
        elif isinstance(item, Statement):
            if item.summary_differs:
                yield BadRow(1, item.summary_differs)
            yield Frame(item.first_day, item.last_day, item.opening, item.closing)
        else:
            yield item


def _line(entry: Entry, told: Told) -> Line | BadRow:
    line_id = entry.reference or entry.entry_reference
    if not line_id:
        return BadRow(entry.line, f"entry {entry.number}: it has neither AcctSvcrRef nor NtryRef")
    kind = _type(entry)
    return Line(
        number=entry.number,
        line_id=line_id,
        type=kind,
        reference=_reference(entry.end_to_end_id),
        processor_reference=entry.entry_reference,
        booked_at=_booked_at(entry, told),
        gross=entry.net,
        fee=NOTHING,
        net=entry.net,
        payout=entry.end_to_end_id if kind == LineType.PAYOUT else "",
    )


def _type(entry: Entry) -> str:
    family, _, last = entry.code.rpartition("/")
    if last in FEES:
        return LineType.FEE
    known = FAMILIES.get(family)
    if known is None:
        return (entry.code or "no code")[:LONGEST_TYPE]
    return known[0] if entry.side == CREDIT else known[1]


def _reference(end_to_end_id: str) -> str:
    return str(UUID(end_to_end_id)) if _BARE_ID.fullmatch(end_to_end_id) else end_to_end_id


def _booked_at(entry: Entry, told: Told) -> datetime:
    written = entry.booked_at or datetime.combine(entry.booked_on, time())
    if written.tzinfo is None:
        written = written.replace(tzinfo=told.zone)
    return written.astimezone(UTC)
