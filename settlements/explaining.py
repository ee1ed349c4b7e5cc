"""What the arithmetic of a difference says, and which entry would put it right; pure, and only a hint.

Each cause that fits is told in a sentence, with the entry that corrects the books if it is so, and what
to do first. A cause that needs no entry says what clears it. The surest come first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from checkout.money import CENT
from settlements.models import Code, Kind

_PROPOSE: Final = "Propose it as corrected: another person approves exactly this entry."
_NINE_CENTS: Final = 9 * CENT
_NOTHING: Final = Decimal("0.00")
OURS, THEIRS = "this charge", "the other charge"


class Why(StrEnum):
    CAPTURED_SHORT = "captured short"
    CAPTURED_MORE = "captured too much"
    TOLD_LESS = "the file says less"
    TOLD_MORE = "the file says more"
    OTHER_CREATOR = "another creator's"
    FEE = "equals the fee"
    TWICE = "twice"
    CUT_OFF = "cut-off day"
    ONE_LINE = "one line missing"
    TOO_MUCH = "nothing asks for it"
    DIGITS = "two digits"


@dataclass(frozen=True)
class Move:
    """One posting of the entry: a debit is positive, in USD; `of` says which of two charges."""

    account: str
    amount: Decimal
    of: str = ""


@dataclass(frozen=True)
class Explanation:
    """A cause that fits; `entry` sums to 0.00 and is empty where none is needed; `then` is what to do."""

    why: Why
    says: str
    entry: tuple[Move, ...]
    then: str


@dataclass(frozen=True)
class Cut:
    """A capture close to the end or the beginning of its day: how near, and the day beside it."""

    minutes: int
    is_before: bool
    day: str
    # Of the other day's file: expected, late, arrived, quarantined; empty where none is expected yet.
    file: str


@dataclass(frozen=True)
class Opposite:
    """A standing discrepancy of as much the other way."""

    id: int
    kind: str
    of_another_creator: bool


@dataclass(frozen=True)
class Clues:
    """What is known around a difference. Amounts are USD; `actual` less `expected` is the difference.

    `is_correctable` says that two people may post an entry for it (`ways_of`). `fee` is what the
    processor may keep of the amount, if that was agreed. Of a payout, `own_lines` are its lines of
    exactly the difference, `next_lines` those of the payouts of the days beside it.
    """

    kind: str
    code: str
    expected: Decimal
    actual: Decimal
    lane: str = ""
    is_correctable: bool = False
    fee: Decimal | None = None
    cut: Cut | None = None
    opposite: Sequence[Opposite] = ()
    own_lines: Sequence[str] = ()
    next_lines: Sequence[str] = ()

    @property
    def difference(self) -> Decimal:
        return self.actual - self.expected


def explain(clues: Clues) -> list[Explanation]:
    """The causes that fit, the surest first; empty where the amounts suggest nothing."""
    if clues.difference == 0:
        return []
    return [
        found
        for look in (
            _capture,
            _told,
            _other_creator,
            _fee,
            _cut_off,
            _sums,
            _twice,
            _whole,
            _digits,
        )
        for found in look(clues)
    ]


def _capture(clues: Clues) -> Iterator[Explanation]:
    if (clues.kind, clues.code) not in {
        (Kind.CAPTURED, Code.UNDER_CHARGE),
        (Kind.CAPTURED, Code.SURPLUS),
    }:
        return
    by, is_short = clues.difference, clues.difference < 0
    yield Explanation(
        Why.CAPTURED_SHORT if is_short else Why.CAPTURED_MORE,
        f"The processor captured {abs(by):,.2f} {'less' if is_short else 'more'} than was owed.",
        _corrects("receivable", by),
        _PROPOSE,
    )


def _corrects(account: str, by: Decimal) -> tuple[Move, ...]:
    """The entry that two people may post: what is short is written off, what is too much is owed back."""
    return (Move("write_off" if by < 0 else "unapplied_receipts", -by), Move(account, by))


def _told(clues: Clues) -> Iterator[Explanation]:
    """A file that says another amount; that one side is nothing, or as much again, is told below."""
    if not _is_line(clues) or _is_whole(clues) or _times(clues):
        return
    by, is_short = clues.difference, clues.difference < 0
    yield Explanation(
        Why.TOLD_LESS if is_short else Why.TOLD_MORE,
        f"The file says {abs(by):,.2f} {'less' if is_short else 'more'} than was captured: so much"
        f" {'too much' if is_short else 'too little'} is left in clearing once its payout has landed.",
        _corrects("clearing", by),
        f"If the file is right: {_PROPOSE[0].lower()}{_PROPOSE[1:]} If not, a corrected file clears it.",
    )


def _is_line(clues: Clues) -> bool:
    """Whether it is money in clearing, by the lines of a statement."""
    return clues.kind == Kind.STATEMENT and clues.is_correctable


def _is_whole(clues: Clues) -> bool:
    return _NOTHING in (clues.expected, clues.actual)


def _times(clues: Clues) -> int:
    """How many times the amount is there; 0 when it is no multiple."""
    if not 0 < clues.expected < clues.actual or clues.actual % clues.expected:
        return 0
    return int(clues.actual // clues.expected)


def _other_creator(clues: Clues) -> Iterator[Explanation]:
    """Money that is ours and was told of another, or the other way round, moves between two charges."""
    # What was captured is short of what is owed; or the file is right, and our record is not.
    sign = {Kind.CAPTURED.value: 1, Kind.STATEMENT.value: -1}.get(clues.kind, 0)
    by = sign * clues.difference
    for other in clues.opposite:
        if other.of_another_creator:
            yield Explanation(
                Why.OTHER_CREATOR,
                f"As much the other way stands in discrepancy {other.id} ({other.kind}), of another"
                " creator: the money may have been told of the wrong one.",
                (Move("receivable", by, OURS), Move("receivable", -by, THEIRS)) if sign else (),
                "Compare both proofs; if it is so, match the lines by hand, or ask the processor to"
                " put the reference right: both are cleared together.",
            )


def _fee(clues: Clues) -> Iterator[Explanation]:
    if not clues.fee or abs(clues.difference) != clues.fee:
        return
    yield Explanation(
        Why.FEE,
        f"It equals the agreed fee of {clues.fee:,.2f}: one side may be net, the other gross.",
        (Move("fees", -clues.difference), Move("clearing", clues.difference)),
        "Ask the processor whether the line is net; a corrected file clears it. What is proposed as"
        " corrected goes to write-off or unapplied receipts, never to fees.",
    )


def _cut_off(clues: Clues) -> Iterator[Explanation]:
    if (clues.kind, clues.code) != (Kind.STATEMENT, Code.MISSING) or clues.cut is None:
        return
    cut = clues.cut
    when = "before the end" if cut.is_before else "after the beginning"
    files = {"arrived": "has arrived too and does not show it", "": "is not expected yet"}
    yield Explanation(
        Why.CUT_OFF,
        f"It was captured {cut.minutes} min {when} of its day: the processor may have booked it on"
        f" {cut.day}, whose file {files.get(cut.file, f'is {cut.file}')}.",
        (),
        "No entry: the line clears it, whichever file shows it."
        if cut.file != "arrived"
        else "Not a matter of the day, then: see the other causes.",
    )


def _sums(clues: Clues) -> Iterator[Explanation]:
    """A sum that is off by exactly one of the lines in it, or of those beside it."""
    word = "missing from" if clues.difference < 0 else "twice in"
    for line in clues.own_lines:
        yield Explanation(
            Why.ONE_LINE,
            f"It is exactly the net of one line of the payout, {line}, which may be {word} what left.",
            (),
            "No entry: it stays in clearing until a later payout, or a corrected file, has it.",
        )
    for line in clues.next_lines:
        yield Explanation(
            Why.CUT_OFF,
            f"It is exactly the net of {line}, of a payout of a day beside it: a matter of the cut-off.",
            (),
            "No entry: look whether that payout is off by as much the other way.",
        )


def _twice(clues: Clues) -> Iterator[Explanation]:
    times = _times(clues)
    if not times:
        return
    says = {2: "exactly twice"}.get(times, f"exactly {times} times")
    yield Explanation(
        Why.TWICE,
        f"It is {says} the amount: the same thing may be recorded {'twice' if times == 2 else 'again'}.",
        # What a bank credits is in the books already, as often as it does.
        _corrects("clearing", clues.difference) if _is_line(clues) else (),
        "Ask whether the money moved as often: if it did, it is owed back"
        f"{': propose it as corrected' if _is_line(clues) else ''}; if not, a corrected file clears it.",
    )


def _whole(clues: Clues) -> Iterator[Explanation]:
    is_line = _is_line(clues)
    entry = _corrects("clearing", clues.difference) if is_line else ()
    if clues.actual == 0:
        yield Explanation(
            Why.ONE_LINE,
            "The whole amount is missing: one line is not there."
            if clues.kind == Kind.STATEMENT
            else "The whole amount is missing: one record is not there.",
            entry,
            "Ask the processor. Only if it never captured this, propose it as corrected: what it never"
            " held leaves clearing and is written off; nobody would collect it again."
            if is_line
            else "The record that is missing clears it.",
        )
    elif clues.expected == 0:
        yield Explanation(
            Why.TOO_MUCH,
            "The whole amount is too much: nothing of ours asks for it.",
            entry,
            "Match it by hand with what it tells of, if there is such an attempt. Only if there is none,"
            " propose it as corrected."
            if is_line
            else "Look at what it was recorded for.",
        )


def _digits(clues: Clues) -> Iterator[Explanation]:
    if clues.expected and clues.actual and abs(clues.difference) % _NINE_CENTS == 0:
        yield Explanation(
            Why.DIGITS,
            "It divides by 9: two digits may have changed places.",
            (),
            "No entry: the row that was mistyped is put right.",
        )
