"""The places where money stands: how a cent is moved there by raw SQL, and what must be named then.

An edit moves a cent of every chosen row at once. `named` says, for one row and its cent, every
discrepancy that must stand, by fingerprint, with its difference in USD: no other may.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeAlias

Facts: TypeAlias = Mapping[str, str]
Named: TypeAlias = dict[str, Decimal]


class Apart(StrEnum):
    """What two cents of one round must not share, since one would hide or move the other's findings."""

    CREATOR = "SELECT id::text FROM checkout_creator"
    PAYOUT = "SELECT id::text FROM settlements_payout WHERE value_on IS NOT NULL"
    FILE = "SELECT id::text FROM settlements_statementimport"
    BANK_STATEMENT = "SELECT id::text FROM settlements_bankstatement"


@dataclass(frozen=True)
class Place:
    """`find` lists rows (`unit`, `id` and what `named` reads) of the units it is given."""

    name: str
    apart: Apart
    find: str
    table: str
    # Column and sign: two of them where a CHECK ties one to the other.
    moves: Mapping[str, int]
    named: Callable[[Facts, Decimal], Named]
    # How many of a hundred cents go here, more or less.
    weight: int = 5

    @property
    def edit(self) -> str:
        """One UPDATE for all the rows of a round: `ids` (text) and `cents` (USD) in step."""
        changes = ", ".join(
            f"{name} = t.{name} + {sign} * m.cent" for name, sign in self.moves.items()
        )
        return (
            f"UPDATE {self.table} t SET {changes}"
            " FROM unnest(%(ids)s::text[], %(cents)s::numeric[]) AS m(id, cent) WHERE t.id::text = m.id"
        )


def _word(cent: Decimal) -> str:
    return "under_charge" if cent < 0 else "surplus"


def _rewritten(kind: str, place: str, facts: Facts, **moved: Decimal) -> Named:
    """The triggers' own word, for what has no second record or stands beside one."""
    return {f"{kind}:rewritten:{place}:{facts['id']}:{name}": cent for name, cent in moved.items()}


def _charge_amount(f: Facts, cent: Decimal) -> Named:
    return {f"billing:{_word(cent)}:{f['id']}": cent}


def _charge_expected(f: Facts, cent: Decimal) -> Named:
    return {f"billing:expectation:{f['id']}": cent}


def _captured(f: Facts, cent: Decimal) -> Named:
    return {
        f"captured:{_word(cent)}:{f['charge']}": cent,
        f"ledger:amount:{f['id']}": -cent,
        f"ledger:receivable:{f['charge']}": cent,
        f"statement:amount:{f['id']}": -cent,
    }


def _asked(f: Facts, cent: Decimal) -> Named:
    return _rewritten("captured", "checkout_attempt", f, amount=cent)


def _posting(f: Facts, cent: Decimal) -> Named:
    named = {f"ledger:unbalanced:{f['entry']}": cent}
    if f["account"] == "clearing":
        named[f"ledger:amount:{f['attempt']}"] = cent
    if f["account"] == "receivable":
        named[f"ledger:receivable:{f['charge']}"] = cent
    return named


def _price(f: Facts, cent: Decimal) -> Named:
    """All charges of the terms, each with as much the other way: the terms are the left side."""
    named = _rewritten("billing", "checkout_subscriptionterms", f, price=cent)
    for charge in f["charges"].split():
        for kind in ("billing", "captured"):
            named[f"{kind}:{_word(-cent)}:{charge}"] = -cent
        named[f"billing:expectation:{charge}"] = -cent
        named[f"ledger:receivable:{charge}"] = -cent
    return named


def _line_gross(f: Facts, cent: Decimal) -> Named:
    rewritten = _rewritten("statement", "settlements_statementline", f, gross=cent, net=cent)
    return {f"statement:amount:{f['key']}": cent, **rewritten}


def _line_fee(f: Facts, cent: Decimal) -> Named:
    rewritten = _rewritten("statement", "settlements_statementline", f, fee=cent, net=-cent)
    return {f"statement:fee:{f['key']}": cent, **rewritten}


def _settlement(f: Facts, cent: Decimal) -> Named:
    sums = {f"payout:amount:settlement:{f['id']}:{name}": cent for name in ("charged", "net")}
    return {**sums, **_rewritten("payout", "settlements_settlement", f, charged=cent, net=cent)}


def _settlement_line(f: Facts, cent: Decimal) -> Named:
    sums = {f"payout:amount:settlement:{f['settlement']}:{n}": -cent for n in ("charged", "net")}
    return {**sums, **_rewritten("payout", "settlements_settlementline", f, amount=cent)}


def _payout_net(f: Facts, cent: Decimal) -> Named:
    parts = {f"payout:amount:{f['id']}:parts:{name}": cent for name in ("gross", "net")}
    return {f"payout:amount:{f['id']}": -cent, **parts}


def _payout_moved(f: Facts, cent: Decimal) -> Named:
    parts = f"payout:amount:{f['id']}:parts"
    return {f"{parts}:gross": cent, f"{parts}:refunds": -cent}


def _payout_paid(f: Facts, cent: Decimal) -> Named:
    it = f"payout:amount:{f['id']}"
    return {it: cent, f"{it}:bank": -cent, f"{it}:parts:paid": cent}


def _lane_posting(f: Facts, cent: Decimal) -> Named:
    rewritten = _rewritten("ledger", "checkout_ledgerposting", f, amount=cent)
    return {f"payout:amount:{f['entry']}:{f['account']}": cent, **rewritten}


def _landing(f: Facts, cent: Decimal) -> Named:
    books = f"payout:amount:{f['entry']}"
    rewritten = _rewritten("payout", "settlements_booking", f, cash=cent, clearing=-cent)
    booked = {f"payout:amount:{f['payout']}:booked:{f['credit']}": cent}
    return {f"{books}:cash": -cent, f"{books}:clearing": cent, **booked, **rewritten}


def _stating(f: Facts, cent: Decimal) -> Named:
    books = f"payout:amount:{f['entry']}"
    rewritten = _rewritten("payout", "settlements_booking", f, fees=cent, clearing=-cent)
    return {f"{books}:fees": -cent, f"{books}:clearing": cent, **rewritten}


def _part(f: Facts, cent: Decimal) -> Named:
    parts = {f"payout:amount:{f['payout']}:parts:{name}": -cent for name in ("gross", "net")}
    return {**parts, **_rewritten("payout", "settlements_payoutpart", f, gross=cent, net=cent)}


def _bank_entry(f: Facts, cent: Decimal) -> Named:
    it = f"payout:amount:{f['payout']}"
    rewritten = _rewritten("payout", "settlements_bankentry", f, amount=cent)
    return {f"{it}:bank": cent, f"{it}:booked:{f['credit']}": -cent, **rewritten}


def _file(f: Facts, cent: Decimal) -> Named:
    return _rewritten("statement", "settlements_statementimport", f, opening=cent, closing=cent)


def _bank_statement(f: Facts, cent: Decimal) -> Named:
    return _rewritten("payout", "settlements_bankstatement", f, opening=cent, closing=cent)


_CHARGE: Final = "SELECT creator_id::text AS unit, id::text FROM checkout_charge"
_ATTEMPT: Final = """
    SELECT creator_id::text AS unit, id::text, charge_id::text AS charge FROM checkout_attempt
"""
_POSTING: Final = """
    SELECT p.creator_id::text AS unit, p.id::text, p.entry_id::text AS entry, p.account,
           p.charge_id::text AS charge, coalesce(e.attempt_id::text, '') AS attempt
    FROM checkout_ledgerposting p JOIN checkout_ledgerentry e ON e.id = p.entry_id
"""
_TERMS: Final = """
    SELECT s.creator_id::text AS unit, t.id::text,
           (SELECT string_agg(c.id::text, ' ') FROM checkout_charge c WHERE c.terms_id = t.id)
             AS charges
    FROM checkout_subscriptionterms t JOIN checkout_subscription s ON s.id = t.subscription_id
"""
_LINE: Final = """
    SELECT a.creator_id::text AS unit, l.id::text, l.key::text
    FROM settlements_statementline l JOIN checkout_attempt a ON a.id = l.key
"""
_SETTLEMENT: Final = "SELECT creator_id::text AS unit, id::text FROM settlements_settlement"
_SETTLEMENT_LINE: Final = """
    SELECT s.creator_id::text AS unit, l.id::text, s.id::text AS settlement
    FROM settlements_settlementline l JOIN settlements_settlement s ON s.id = l.settlement_id
"""
_PAYOUT: Final = "SELECT id::text AS unit, id::text FROM settlements_payout"
_PART: Final = """
    SELECT payout_id::text AS unit, id::text, payout_id::text AS payout FROM settlements_payoutpart
"""
_ENTRY: Final = """
    SELECT payout_id::text AS unit, entry_id::text AS id, payout_id::text AS payout,
           id::text AS credit
    FROM settlements_payoutcredit
"""
_LANDED_POSTING: Final = """
    SELECT c.payout_id::text AS unit, p.id::text, p.entry_id::text AS entry, p.account
    FROM settlements_booking b JOIN checkout_ledgerposting p ON p.entry_id = b.entry_id
    JOIN settlements_payoutcredit c ON c.id = b.credit_id
"""
_STATED_POSTING: Final = """
    SELECT b.statement_id::text AS unit, p.id::text, p.entry_id::text AS entry, p.account
    FROM settlements_booking b JOIN checkout_ledgerposting p ON p.entry_id = b.entry_id
    WHERE b.statement_id IS NOT NULL
"""
_LANDING: Final = """
    SELECT c.payout_id::text AS unit, b.id::text, c.payout_id::text AS payout,
           c.id::text AS credit, b.entry_id::text AS entry
    FROM settlements_booking b JOIN settlements_payoutcredit c ON c.id = b.credit_id
"""
_STATING: Final = """
    SELECT statement_id::text AS unit, id::text, entry_id::text AS entry
    FROM settlements_booking WHERE statement_id IS NOT NULL AND entry_id IS NOT NULL
"""
_FILE: Final = "SELECT id::text AS unit, id::text FROM settlements_statementimport"
_BANK: Final = "SELECT id::text AS unit, id::text FROM settlements_bankstatement"

_C, _P = Apart.CREATOR, Apart.PAYOUT
PLACES: Final = (
    Place("charge, amount", _C, _CHARGE, "checkout_charge", {"amount": 1}, _charge_amount, 12),
    Place(
        "charge, expected",
        _C,
        _CHARGE,
        "checkout_charge",
        {"expected_amount": 1},
        _charge_expected,
    ),
    Place(
        "attempt, captured",
        _C,
        _ATTEMPT,
        "checkout_attempt",
        {"captured_amount": 1},
        _captured,
        12,
    ),
    Place("attempt, asked", _C, _ATTEMPT, "checkout_attempt", {"amount": 1}, _asked),
    Place("posting", _C, _POSTING, "checkout_ledgerposting", {"amount": 1}, _posting, 16),
    Place("terms, price", _C, _TERMS, "checkout_subscriptionterms", {"price": 1}, _price),
    Place(
        "statement line, gross",
        _C,
        _LINE,
        "settlements_statementline",
        {"gross": 1, "net": 1},
        _line_gross,
        12,
    ),
    Place(
        "statement line, fee",
        _C,
        _LINE,
        "settlements_statementline",
        {"fee": 1, "net": -1},
        _line_fee,
    ),
    Place(
        "settlement",
        _C,
        _SETTLEMENT,
        "settlements_settlement",
        {"charged": 1, "net": 1},
        _settlement,
        8,
    ),
    Place(
        "settlement line",
        _C,
        _SETTLEMENT_LINE,
        "settlements_settlementline",
        {"amount": 1},
        _settlement_line,
        8,
    ),
    Place("payout, net", _P, _PAYOUT, "settlements_payout", {"gross": 1, "net": 1}, _payout_net, 2),
    Place(
        "payout, moved within",
        _P,
        _PAYOUT,
        "settlements_payout",
        {"gross": 1, "refunds": -1},
        _payout_moved,
        2,
    ),
    Place("payout, paid", _P, _PAYOUT, "settlements_payout", {"paid": 1}, _payout_paid, 2),
    Place("payout part", _P, _PART, "settlements_payoutpart", {"gross": 1, "net": 1}, _part, 2),
    Place("bank entry", _P, _ENTRY, "settlements_bankentry", {"amount": 1}, _bank_entry, 2),
    Place(
        "posting of a landing",
        _P,
        _LANDED_POSTING,
        "checkout_ledgerposting",
        {"amount": 1},
        _lane_posting,
        2,
    ),
    Place(
        "posting of a file",
        Apart.FILE,
        _STATED_POSTING,
        "checkout_ledgerposting",
        {"amount": 1},
        _lane_posting,
        2,
    ),
    Place(
        "booking of a landing",
        _P,
        _LANDING,
        "settlements_booking",
        {"cash": 1, "clearing": -1},
        _landing,
        2,
    ),
    Place(
        "booking of a file",
        Apart.FILE,
        _STATING,
        "settlements_booking",
        {"fees": 1, "clearing": -1},
        _stating,
        2,
    ),
    Place(
        "statement file",
        Apart.FILE,
        _FILE,
        "settlements_statementimport",
        {"opening": 1, "closing": 1},
        _file,
        2,
    ),
    Place(
        "bank statement",
        Apart.BANK_STATEMENT,
        _BANK,
        "settlements_bankstatement",
        {"opening": 1, "closing": 1},
        _bank_statement,
        1,
    ),
)
