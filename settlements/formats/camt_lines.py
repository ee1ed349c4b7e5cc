"""A processor's statement written as camt.053: its entries as lines.

Some processors keep an account for us and write its statement as a bank would. What an entry is, its
ISO bank transaction code says (the external code sets of www.iso20022.org); a code that is not in the
table, as a reserve's or a proprietary one, is no type of ours and sets the file aside, to be looked at.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from typing import Final
from uuid import UUID

from settlements.formats.camt import CREDIT, Entry, Statement, looks_like, read_statements
from settlements.formats.lines import LONGEST_TYPE, BadRow, Frame, Item, Line, Told
from settlements.models import NOTHING, LineType

__all__ = ["NAME", "looks_like", "read"]

NAME: Final = "camt.053"
# The last part of a code that means a fee, in whichever family: charges, commission, fees.
FEES: Final = frozenset({"CHRG", "COMM", "FEES", "COMT", "COME"})
# Card money in and back: what a credit is, what a debit is. Sales, reimbursements, unpaid (which is
# a dispute), adjustments. No code is taken for what it is not called: RIMB brings no money in.
CARDS: Final[Mapping[str, tuple[LineType | None, LineType | None]]] = {
    **dict.fromkeys(
        ("POSC", "POSD", "POSP", "SMCD", "SMRT", "XBCP"), (LineType.CHARGE, LineType.REFUND)
    ),
    "RIMB": (None, LineType.REFUND),
    "UPCT": (LineType.REVERSAL, LineType.DISPUTE),
    "CAJT": (LineType.ADJUSTMENT, None),
    "DAJT": (None, LineType.ADJUSTMENT),
}
CARD_FAMILIES: Final = frozenset({"PMNT/MCRD", "PMNT/CCRD"})
# Money out to our bank, and its return; not BOOK, by which processors move a reserve.
TRANSFERS: Final = frozenset(
    f"PMNT/ICDT/{each}"
    for each in (
        *("AUTT", "DMCT", "ESCT", "PRCT", "SDVA", "STDO", "XBCT", "XBST"),
        *("RPCR", "RRTN"),
    )
)
# The attempt's UUID without its dashes: an EndToEndId holds 35 characters, the dashed one has 36.
_BARE_ID: Final = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)


def read(chunks: Iterable[bytes], told: Told) -> Iterator[Item]:
    """The booked entries as lines without a fee of their own, and the statement's frame.

    An entry booked outside the statement's days is refused; the statement says them only at its end.
    """
    # The first entry of each day: what is kept does not grow with the file.
    days: dict[date, Entry] = {}
    for item in read_statements(chunks):
        if isinstance(item, Entry):
            days.setdefault(_booked_at(item, told).astimezone(told.zone).date(), item)
            yield _line(item, told)
        elif isinstance(item, Statement):
            if item.summary_differs:
                yield BadRow(1, item.summary_differs)
            yield from _outside(days, item)
            days = {}
            yield Frame(item.first_day, item.last_day, item.opening, item.closing)
        else:
            yield item


def _outside(days: Mapping[date, Entry], statement: Statement) -> Iterator[BadRow]:
    first, last = statement.first_day, statement.last_day
    for day, entry in days.items():
        if not first <= day <= last:
            reason = f"booked on {day}, but the statement covers {first} to {last}"
            yield BadRow(entry.line, f"entry {entry.number}: {reason}")


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
    """Our type of a bank transaction code; one nobody agreed on stays, and sets the file aside.

    A reversed entry takes back what its code says of the other side, whichever way the money went: never
    a charge. A refund that is taken back is that refund with the other sign; any other is a reversal.
    """
    family, _, last = entry.code.rpartition("/")
    if last in FEES:
        return LineType.FEE
    if entry.code in TRANSFERS:
        return LineType.PAYOUT
    if family in CARD_FAMILIES and last in CARDS:
        money_in, money_out = CARDS[last]
        if entry.is_reversal:
            taken_back = money_out if entry.side == CREDIT else money_in
            return LineType.REFUND if taken_back == LineType.REFUND else LineType.REVERSAL
        known = money_in if entry.side == CREDIT else money_out
        if known is not None:
            return known
    return (entry.code or "no code")[:LONGEST_TYPE]


def _reference(end_to_end_id: str) -> str:
    return str(UUID(end_to_end_id)) if _BARE_ID.fullmatch(end_to_end_id) else end_to_end_id


def _booked_at(entry: Entry, told: Told) -> datetime:
    written = entry.booked_at or datetime.combine(entry.booked_on, time())
    if written.tzinfo is None:
        written = written.replace(tzinfo=told.zone)
    return written.astimezone(UTC)
