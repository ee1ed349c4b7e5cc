"""What may be exported: each list's columns, the filters it takes, its order, and what it sums up.

An order is total (it ends with a key), so that the same rows make the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Type(StrEnum):
    """What stands in a column. Only `text` was written by somebody, and is guarded (R48)."""

    TEXT = "text"
    USD = "usd"
    COUNT = "count"
    DAY = "day"
    TIME = "time"


@dataclass(frozen=True)
class Column:
    """A column's heading and the SQL expression behind it."""

    name: str
    sql: str
    type: Type = Type.TEXT


@dataclass(frozen=True)
class ExportList:
    """One list. `key` is the SQL of a row's id, `total` that of what the list's USD total adds up.

    `filters` holds, by the option's name, a condition with the one parameter `%(<name>)s`; a day of
    `from` is included, one of `to` is not. `only` holds for every row, whatever the filters.
    """

    name: str
    what: str
    columns: tuple[Column, ...]
    source: str
    filters: Mapping[str, str]
    order: str
    total: str
    key: str
    only: str = ""
    # What a filter of its page adds up instead of `total`, by the name that the page prints.
    totals: Mapping[str, str] = field(default_factory=dict)
    # What a page's own filter is in words, when it chose the rows.
    chosen_in_words: str = ""


class UnknownList(Exception):
    """There is no list of this name."""


class FilterNotTaken(Exception):
    """The list has no such filter."""


def named(name: str) -> ExportList:
    """The list of this name; raises UnknownList, which names all."""
    if name not in LISTS:
        raise UnknownList(f"there is no list {name!r}; there are {', '.join(LISTS)}")
    return LISTS[name]


def conditions(wanted: ExportList, given: Mapping[str, object]) -> list[str]:
    """The list's own conditions for what was given; raises FilterNotTaken, which names what it takes."""
    for name in given:
        if name not in wanted.filters:
            raise FilterNotTaken(
                f"{wanted.name} takes no --{name}; it takes {', '.join(wanted.filters)}"
            )
    return [*([wanted.only] if wanted.only else []), *(wanted.filters[name] for name in given)]


def chosen_by_page(wanted: ExportList, *, ids: str, in_words: str, usd_of: str = "") -> ExportList:
    """The list with exactly the rows that a page shows; `ids` is the SELECT of their ids, whole.

    It takes the place of what the list holds by itself: the page has its own idea of that, and of what
    it adds up (`usd_of`, as the page prints it).
    """
    only = f"{wanted.key} IN ({ids.replace('%', '%%')})"
    total = wanted.totals[usd_of] if usd_of else wanted.total
    return replace(wanted, only=only, chosen_in_words=in_words, total=total)


def _days(column: str) -> dict[str, str]:
    """From a day of the business clock, in UTC, up to another one."""
    return {
        "from": f"{column} >= %(from)s::date::timestamp AT TIME ZONE 'UTC'",
        "to": f"{column} < %(to)s::date::timestamp AT TIME ZONE 'UTC'",
    }


_CHARGES: Final = ExportList(
    name="charges",
    what="charges by the day they were owed, with what was captured",
    columns=(
        Column("charge", "c.id"),
        Column("creator", "c.creator_id"),
        Column("external id", "r.external_id"),
        Column("plan", "t.plan_id"),
        Column("period start", "c.period_start", Type.DAY),
        Column("period end", "c.period_end", Type.DAY),
        Column("owed at", "c.billed_at", Type.TIME),
        Column("amount USD", "c.amount", Type.USD),
        Column("state", "c.state"),
        Column("lane", "c.lane"),
        Column("captured USD", "a.captured_amount", Type.USD),
        Column("captured at", "a.booked_at", Type.TIME),
        Column("merchant reference", "a.id"),
        Column("processor reference", "a.processor_reference"),
    ),
    source="""checkout_charge c
        JOIN checkout_creator r ON r.id = c.creator_id
        JOIN checkout_subscriptionterms t ON t.id = c.terms_id
        LEFT JOIN checkout_attempt a ON a.charge_id = c.id AND a.outcome = 'captured'""",
    filters={
        **_days("c.billed_at"),
        "state": "c.state = %(state)s",
        "lane": "c.lane = %(lane)s",
        "creator": "c.creator_id = %(creator)s",
    },
    order="c.billed_at, c.id",
    total="c.amount",
    key="c.id",
)

_ATTEMPTS: Final = ExportList(
    name="attempts",
    what="tries at a processor by the time they began, with how each ended",
    columns=(
        Column("merchant reference", "a.id"),
        Column("charge", "a.charge_id"),
        Column("creator", "a.creator_id"),
        Column("lane", "a.lane"),
        Column("round", "a.round", Type.COUNT),
        Column("number", "a.number", Type.COUNT),
        Column("sends", "a.sends", Type.COUNT),
        Column("amount USD", "a.amount", Type.USD),
        Column("outcome", "a.outcome"),
        Column("verdict", "a.verdict"),
        Column("decline class", "a.decline_class"),
        Column("decline code", "a.decline_code"),
        Column("captured USD", "a.captured_amount", Type.USD),
        Column("processor reference", "a.processor_reference"),
        Column("started at", "a.started_at", Type.TIME),
        Column("ended at", "a.ended_at", Type.TIME),
    ),
    source="checkout_attempt a",
    filters={
        **_days("a.started_at"),
        "outcome": "a.outcome = %(outcome)s",
        "lane": "a.lane = %(lane)s",
        "creator": "a.creator_id = %(creator)s",
    },
    order="a.started_at, a.id",
    # What was asked for: that is what the page of attempts adds up.
    total="a.amount",
    totals={
        "collected later": """(SELECT c.captured_amount FROM checkout_attempt c
            WHERE c.charge_id = a.charge_id AND c.outcome = 'captured')""",
    },
    key="a.id",
)

_DISCREPANCIES: Final = ExportList(
    name="discrepancies",
    what="what does not agree, by the time it was found",
    columns=(
        Column("discrepancy", "d.fingerprint"),
        Column("kind", "d.kind"),
        Column("code", "d.code"),
        Column("charge", "d.charge_id"),
        Column("creator", "d.creator_id"),
        Column("lane", "d.lane"),
        Column("expected USD", "d.expected", Type.USD),
        Column("actual USD", "d.actual", Type.USD),
        Column("difference USD", "d.difference", Type.USD),
        Column("what does not agree", "d.explanation"),
        Column("opened at", "d.opened_at", Type.TIME),
        Column("cleared at", "d.cleared_at", Type.TIME),
        Column("resolved at", "d.resolved_at", Type.TIME),
    ),
    source="settlements_discrepancy d",
    filters={
        **_days("d.opened_at"),
        "kind": "d.kind = %(kind)s",
        "standing": "(d.cleared_at IS NULL AND d.resolved_at IS NULL) = (%(standing)s = 'yes')",
        "lane": "d.lane = %(lane)s",
        "creator": "d.creator_id = %(creator)s",
    },
    order="d.opened_at, d.id",
    total="d.difference",
    key="d.id",
)

_STATEMENT_LINES: Final = ExportList(
    name="statement-lines",
    what="lines of statements as the processor wrote them",
    columns=(
        Column("file", "s.file_name"),
        Column("file state", "s.state"),
        Column("line", "l.number", Type.COUNT),
        Column("lane", "s.lane"),
        Column("line id", "l.line_id"),
        Column("type", "l.type"),
        Column("merchant reference", "l.reference"),
        Column("processor reference", "l.processor_reference"),
        Column("booked at", "l.booked_at", Type.TIME),
        Column("gross USD", "l.gross", Type.USD),
        Column("fee USD", "l.fee", Type.USD),
        Column("net USD", "l.net", Type.USD),
        Column("payout", "l.payout"),
    ),
    source="""settlements_statementline l
        JOIN settlements_statementimport s ON s.id = l.statement_id""",
    filters={
        **_days("l.booked_at"),
        "lane": "s.lane = %(lane)s",
        "type": "l.type = %(type)s",
        "payout": "l.payout = %(payout)s",
    },
    order="s.lane, s.first_day, s.id, l.number",
    total="l.net",
    totals={
        "gross": "l.gross",
        "fees": "CASE WHEN l.type IN ('fee', 'dispute_fee') THEN l.gross ELSE 0.00 END - l.fee",
    },
    key="l.id",
    only="s.state = 'accepted'",
)

_CASES: Final = ExportList(
    name="cases",
    what="what a person had to decide, and how it was decided",
    columns=(
        Column("case", "k.id", Type.COUNT),
        Column("kind", "k.kind"),
        Column("about", "k.subject"),
        Column("charge", "k.charge_id"),
        Column("creator", "k.creator_id"),
        Column("amount USD", "k.amount", Type.USD),
        Column("reason", "k.reason"),
        Column("opened at", "k.opened_at", Type.TIME),
        Column("proposal", "k.proposal"),
        Column("proposed by", "k.proposed_by"),
        Column("approved by", "k.approved_by"),
        Column("closed at", "k.closed_at", Type.TIME),
        Column("closed because", "k.closed_because"),
    ),
    source="checkout_case k",
    filters={
        **_days("k.opened_at"),
        "kind": "k.kind = %(kind)s",
        "creator": "k.creator_id = %(creator)s",
        "standing": "(k.closed_at IS NULL) = (%(standing)s = 'yes')",
    },
    order="k.opened_at, k.id",
    total="k.amount",
    key="k.id",
)

LISTS: Final[Mapping[str, ExportList]] = MappingProxyType(
    {each.name: each for each in (_CHARGES, _ATTEMPTS, _DISCREPANCIES, _STATEMENT_LINES, _CASES)}
)
