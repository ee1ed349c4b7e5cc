"""Bank statements: ISO 20022 camt.053, read entry by entry as the file arrives.

Elements: the message definitions 001.02 (2009), 001.08 (2019) and 001.14 (2026, the newest) of
www.iso20022.org. What is read stands at the same places in all three but for an entry's status and
the parties' names, and both spellings are taken.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final, TypeAlias

from checkout.money import CURRENCY
from settlements.formats.lines import DAY, LARGEST_SUM, BadRow, amount, is_thinkable, too_long
from settlements.formats.xml import Found, Hostile, paths, read_paths
from settlements.models import NOTHING

VERSIONS: Final = ("02", "08", "14")
CREDIT: Final = "CRDT"
DEBIT: Final = "DBIT"
BOOKED: Final = "BOOK"
NOT_PROVIDED: Final = "NOTPROVIDED"

_NAMESPACE: Final = re.compile(
    r"urn:iso:std:iso:20022:tech:xsd:([a-z]{4}\.[0-9]{3}\.001)\.([0-9]{2})"
)
_WANTED: Final = "camt.053.001"
_STATEMENT: Final = "Document/BkToCstmrStmt/Stmt"
_BALANCE: Final = f"{_STATEMENT}/Bal"
_ENTRY: Final = f"{_STATEMENT}/Ntry"
_DETAIL: Final = f"{_ENTRY}/NtryDtls/TxDtls"
_PARTIES: Final = f"{_DETAIL}/RltdPties"
_CODE: Final = f"{_ENTRY}/BkTxCd"

PATHS: Final = paths(
    {
        f"{_STATEMENT}/Id": "id",
        f"{_STATEMENT}/ElctrncSeqNb": "sequence",
        f"{_STATEMENT}/StmtPgntn/LastPgInd": "last_page",
        f"{_STATEMENT}/FrToDt/FrDtTm": "from",
        f"{_STATEMENT}/FrToDt/ToDtTm": "to",
        f"{_STATEMENT}/Acct/Id/IBAN": "account",
        f"{_STATEMENT}/Acct/Id/Othr/Id": "account",
        f"{_STATEMENT}/TxsSummry/TtlNtries/NbOfNtries": "entries",
        f"{_STATEMENT}/TxsSummry/TtlNtries/Sum": "sum",
        f"{_BALANCE}/Tp/CdOrPrtry/Cd": "balance",
        f"{_BALANCE}/Amt": "amount",
        f"{_BALANCE}/Amt/@Ccy": "currency",
        f"{_BALANCE}/CdtDbtInd": "side",
        f"{_BALANCE}/Dt/Dt": "day",
        f"{_BALANCE}/Dt/DtTm": "day",
        f"{_ENTRY}/NtryRef": "entry_reference",
        f"{_ENTRY}/Amt": "amount",
        f"{_ENTRY}/Amt/@Ccy": "currency",
        f"{_ENTRY}/CdtDbtInd": "side",
        f"{_ENTRY}/RvslInd": "reversal",
        f"{_ENTRY}/Sts": "status",
        f"{_ENTRY}/Sts/Cd": "status",
        f"{_ENTRY}/BookgDt/Dt": "booked",
        f"{_ENTRY}/BookgDt/DtTm": "booked",
        f"{_ENTRY}/ValDt/Dt": "value",
        f"{_ENTRY}/ValDt/DtTm": "value",
        f"{_ENTRY}/AcctSvcrRef": "reference",
        f"{_ENTRY}/AddtlNtryInf": "words",
        f"{_CODE}/Domn/Cd": "code",
        f"{_CODE}/Domn/Fmly/Cd": "code",
        f"{_CODE}/Domn/Fmly/SubFmlyCd": "code",
        f"{_CODE}/Prtry/Cd": "own_code",
        f"{_DETAIL}/@#": "payments",
        f"{_DETAIL}/Refs/EndToEndId": "end_to_end",
        f"{_DETAIL}/RmtInf/Ustrd": "remittance",
        f"{_DETAIL}/RmtInf/Strd/CdtrRefInf/Ref": "remittance",
        f"{_PARTIES}/Dbtr/Nm": "debtor",
        f"{_PARTIES}/Dbtr/Pty/Nm": "debtor",
        f"{_PARTIES}/Cdtr/Nm": "creditor",
        f"{_PARTIES}/Cdtr/Pty/Nm": "creditor",
    },
    ends=(_BALANCE, _ENTRY, _STATEMENT),
)


@dataclass(frozen=True)
class Entry:
    """One booked entry; amounts in USD, less than zero for a debit in `net`."""

    # Of the statements in the file, and of the entries in the statement, from 1; the file's line.
    position: int
    number: int
    line: int
    booked_on: date
    # With its time, where the bank tells one.
    booked_at: datetime | None
    value_on: date | None
    amount: Decimal
    side: str
    currency: str
    is_reversal: bool
    reference: str
    entry_reference: str
    end_to_end_id: str
    code: str
    counterparty: str
    remittance: str
    payments: int

    @property
    def net(self) -> Decimal:
        return self.amount if self.side == CREDIT else -self.amount


@dataclass(frozen=True)
class Statement:
    """What stands around the entries of one account; it comes after them. Balances in USD."""

    position: int
    version: str
    account: str
    statement_id: str
    sequence: int | None
    first_day: date
    last_day: date
    opening: Decimal
    closing: Decimal
    movement: Decimal
    entry_count: int
    not_booked: int
    # Where the bank's own summary of the entries differs from them, in a sentence.
    summary_differs: str


BankItem: TypeAlias = Entry | Statement | BadRow


def looks_like(head: bytes) -> bool:
    """Whether a file begins as XML does; which message it is, its first element says."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"


def read_statements(chunks: Iterable[bytes]) -> Iterator[BankItem]:
    """Every booked entry, and after the last of each account its statement.

    Each is checked by itself: amounts with two places at most (R2, R39), USD (R9), dates, balances.
    What cannot be read is named with its line; a file that is hostile or breaks off ends with it.
    """
    version: list[str] = []

    def on_root(namespace: str, name: str) -> str:
        found = _NAMESPACE.fullmatch(namespace)
        if found is None or name != "Document":
            return f"its first element is {name!r} of {namespace or 'no namespace'}, not camt.053"
        version.append(f"{found[1]}.{found[2]}")
        return _why_not_read(found[1], found[2])

    reading = _Account(position=1)
    try:
        for path, line, found in read_paths(chunks, PATHS, on_root=on_root):
            if path == _BALANCE:
                reading.balance(line, found)
            elif path == _ENTRY:
                entry = reading.entry(line, found)
                if entry is not None:
                    yield entry
            else:
                yield reading.statement(line, found, version[0])
                reading = _Account(position=reading.position + 1)
    except Hostile as hostile:
        yield BadRow(hostile.number, hostile.reason)


class _Account:
    """One statement while it is read: its balances, and the entries so far added up."""

    def __init__(self, *, position: int) -> None:
        self.position = position
        self.balances: dict[str, tuple[Decimal, date]] = {}
        self.faults: list[str] = []
        self.movement, self.booked, self.absolute = NOTHING, 0, NOTHING
        self.seen = 0
        # What stood before the first balance or entry: the account, the days, the summary.
        self.head: Found = {}

    def balance(self, line: int, found: Found) -> None:
        """Keep an opening or closing balance; what is wrong with it is said with the statement."""
        self._keep_head(found)
        kind = _one(found, "balance")
        if kind not in {"OPBD", "PRCD", "CLBD"}:
            return
        value, day = _signed(found), _day(_one(found, "day"))
        if isinstance(value, str):
            self.faults.append(f"balance {kind} in line {line}: {value}")
        elif day is None:
            self.faults.append(f"balance {kind} in line {line}: it has no date")
        elif kind in self.balances:
            self.faults.append(f"balance {kind} in line {line}: a second one")
        else:
            self.balances[kind] = value, day

    def entry(self, line: int, found: Found) -> Entry | BadRow | None:
        """The entry if it is booked; None for one that is pending or for information."""
        self._keep_head(found)
        self.seen += 1
        where = f"entry {self.seen}"
        value = _signed(found)
        if isinstance(value, str):
            return BadRow(line, f"{where}: {value}")
        self.absolute += abs(value)
        if _one(found, "status") != BOOKED:
            return None
        made = _entry(self.position, self.seen, line, value, found)
        if isinstance(made, str):
            return BadRow(line, f"{where}: {made}")
        self.movement, self.booked = self.movement + made.net, self.booked + 1
        return made

    def statement(self, line: int, found: Found, version: str) -> Statement | BadRow:
        """The whole, once its last entry was read; or why it cannot be taken."""
        self._keep_head(found)
        opening = self.balances.get("OPBD") or self.balances.get("PRCD")
        closing = self.balances.get("CLBD")
        days = self._days()
        reason = self._why_not(opening, closing)
        if reason or opening is None or closing is None or isinstance(days, str):
            return BadRow(line, f"statement {self.position}: {reason or days}")
        sequence = _one(self.head, "sequence")
        return Statement(
            position=self.position,
            version=version,
            account=_one(self.head, "account"),
            statement_id=_one(self.head, "id"),
            sequence=int(sequence) if sequence else None,
            first_day=days[0],
            last_day=days[1],
            opening=opening[0],
            closing=closing[0],
            movement=self.movement,
            entry_count=self.booked,
            not_booked=self.seen - self.booked,
            summary_differs=self._summary_differs(),
        )

    def _keep_head(self, found: Found) -> None:
        for name in _HEAD & found.keys():
            self.head.setdefault(name, found.pop(name))

    def _why_not(self, opening: object, closing: object) -> str:
        account, statement = _one(self.head, "account"), _one(self.head, "id")
        sequence = _one(self.head, "sequence")
        if self.faults:
            return "; ".join(self.faults[:5])
        if not account or len(account) > 34:
            return "it names no account of up to 34 characters"
        if not statement or len(statement) > 35:
            return "it has no Id of up to 35 characters"
        if sequence and not re.fullmatch(r"[0-9]{1,18}", sequence, re.ASCII):
            return f"its number {sequence!r} is not one of up to 18 digits"
        if self.absolute > LARGEST_SUM:
            return f"its entries come to more than {LARGEST_SUM} USD"
        if _one(self.head, "last_page") == "false":
            return "it is a page of several; ask the bank for the statement in one"
        if opening is None:
            return "it has no opening booked balance (OPBD, or PRCD)"
        return "it has no closing booked balance (CLBD)" if closing is None else ""

    def _days(self) -> tuple[date, date] | str:
        """From the statement's own period, else from its balances; the end of a day may be next 00:00."""
        first, last = _day(_one(self.head, "from")), _day(_one(self.head, "to"))
        if first is None or last is None:
            opened = self.balances.get("OPBD")
            before = self.balances.get("PRCD")
            closed = self.balances.get("CLBD")
            first = opened[1] if opened else before[1] + DAY if before else None
            last = closed[1] if closed else None
        elif last > first and _is_midnight(_one(self.head, "to")):
            last -= DAY
        if first is None or last is None:
            return "it does not say which days it covers"
        # A bank may date the opening by the day before, which was the last one's closing.
        return (first, last) if first <= last else f"it ends on {last} and begins on {first}"

    def _summary_differs(self) -> str:
        count, total = _one(self.head, "entries"), amount(_one(self.head, "sum"))
        if count and count != str(self.seen):
            return f"its summary counts {count[:18]} entries, but there are {self.seen}"
        if total is not None and total != self.absolute:
            return f"its summary adds up to {total}, but the entries to {self.absolute}"
        return ""


_HEAD: Final = frozenset({"id", "sequence", "last_page", "from", "to", "account", "entries", "sum"})


def _entry(position: int, number: int, line: int, value: Decimal, found: Found) -> Entry | str:
    """The entry, or why it cannot be read."""
    booked = _one(found, "booked")
    booked_on, value_on = _day(booked), _day(_one(found, "value"))
    if booked_on is None:
        return f"booking date {booked!r} is not a date such as 2026-01-05"
    if value_on is None and _one(found, "value"):
        return f"value date {_one(found, 'value')!r} is not a date such as 2026-01-05"
    payments = int(_one(found, "payments") or "1")
    end_to_end = _one(found, "end_to_end") if payments == 1 else ""
    texts = (_one(found, "reference"), _one(found, "entry_reference"), end_to_end, _code(found))
    if reason := too_long(texts):
        return reason
    side = _one(found, "side")
    return Entry(
        position=position,
        number=number,
        line=line,
        booked_on=booked_on,
        booked_at=_instant(booked),
        value_on=value_on,
        amount=abs(value),
        side=side,
        currency=CURRENCY,
        is_reversal=_one(found, "reversal") in {"true", "1"},
        reference=texts[0],
        entry_reference=texts[1],
        end_to_end_id="" if end_to_end == NOT_PROVIDED else end_to_end,
        code=texts[3],
        counterparty=_one(found, "debtor" if side == CREDIT else "creditor")[:140],
        remittance=_remittance(found, payments),
        payments=payments,
    )


def _remittance(found: Mapping[str, Sequence[str]], payments: int) -> str:
    """The payer's words, of a batch with its payments' own references; else what the bank added."""
    said = list(found.get("remittance", ()))
    if payments > 1:
        said += [text for text in found.get("end_to_end", ()) if text != NOT_PROVIDED]
    return "\n".join(said or found.get("words", ()))


def _code(found: Found) -> str:
    return "/".join(found.get("code", ())) or _one(found, "own_code")


def _signed(found: Found) -> Decimal | str:
    """An amount with its sign by credit or debit, or why it cannot be read."""
    written, side = _one(found, "amount"), _one(found, "side")
    value = amount(written)
    if value is None or written.startswith("-"):
        return f"{written!r} is not an amount such as 19.99"
    if _one(found, "currency") != CURRENCY:
        return f"currency {_one(found, 'currency')!r} is not {CURRENCY}"
    if side not in {CREDIT, DEBIT}:
        return f"{side!r} is neither {CREDIT} nor {DEBIT}"
    return value if side == CREDIT else -value


def _why_not_read(message: str, version: str) -> str:
    """Why this message is not read, or nothing."""
    known = ", ".join(f"{_WANTED}.{each}" for each in VERSIONS)
    if message != _WANTED:
        return f"it is a {message}.{version}, no statement; ask the bank for {known}"
    if version not in VERSIONS:
        return f"it is a {message}.{version}; read are {known}: ask the bank for one of them"
    return ""


def _one(found: Mapping[str, Sequence[str]], name: str) -> str:
    texts = found.get(name)
    return texts[0] if texts else ""


def _day(text: str) -> date | None:
    """The day as it is written, whatever zone a time stands in."""
    try:
        day = date.fromisoformat(text[:10]) if len(text) >= 10 else None
    except ValueError:
        return None
    return day if day and is_thinkable(day.year) else None


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if "T" in text else None
    except ValueError:
        return None


def _is_midnight(text: str) -> bool:
    return text[10:19] == "T00:00:00"
