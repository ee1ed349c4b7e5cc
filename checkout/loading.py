"""Creators, plans and routing rules from a file: all of it or nothing, and safe to load twice.

A row that says what is already there is counted as "already there"; a row that contradicts it is
refused, because what was agreed is never rewritten by a file. Rows are read one by one into typed
values with every fault named by line and field; then one transaction inserts them set-based.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID
from zoneinfo import available_timezones

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction

from checkout import outbox, routing
from checkout.clock import Moment
from checkout.models import Creator, Interval, Plan, RoutingRule
from checkout.money import CENT, NotAnAmount, usd

T = TypeVar("T")

CREATOR_COLUMNS: Final = ("external_id", "name", "email", "country", "time_zone")
# What the creator's checkout will ask for: checked here, used by whoever starts the checkout.
CHECKOUT_COLUMNS: Final = ("plan", "token")
PLAN_COLUMNS: Final = ("code", "name", "price", "interval", "interval_count")
RULE_COLUMNS: Final = (
    "country",
    "lane",
    "valid_from",
    "valid_to",
    "reason",
    "source",
    "source_date",
)

_CARD_NUMBER = re.compile(r"(?:[0-9][ -]?){12,19}", re.ASCII)
_CODE = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,39})", re.ASCII)
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_COUNT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


@dataclass(frozen=True)
class Fault:
    """What is wrong with one field of one line, and what to do about it."""

    line: int
    field: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}: {self.text}"


class RowsRefused(Exception):
    """Some rows cannot be loaded, so none were."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line))


@dataclass(frozen=True)
class CreatorRow:
    """One creator of the file; `plan` and `token` are empty where the file has no such column."""

    line: int
    external_id: str
    name: str
    email: str
    country: str
    time_zone: str
    plan: str = ""
    token: str = ""


@dataclass(frozen=True)
class PlanRow:
    line: int
    code: str
    name: str
    price: Decimal
    interval: str
    interval_count: int


@dataclass(frozen=True)
class RuleRow:
    line: int
    country: str
    lane: str
    valid_from: date
    valid_to: date | None
    reason: str
    source: str
    source_date: date


R = TypeVar("R", CreatorRow, PlanRow, RuleRow)


@dataclass(frozen=True)
class Loaded:
    """What a load did."""

    added: int
    already_there: int


def read_all(
    *,
    rows: Iterable[tuple[int, Mapping[str, str]]],
    read: Callable[[int, Mapping[str, str]], R],
) -> list[R]:
    """Read every row with one of the three readers; raises RowsRefused with all faults of all rows."""
    good: list[R] = []
    faults: list[Fault] = []
    for line, values in rows:
        try:
            good.append(read(line, values))
        except RowsRefused as error:
            faults += error.faults
    _refuse(faults)
    return good


def read_creator(line: int, values: Mapping[str, str]) -> CreatorRow:
    """Read one row; raises RowsRefused with each of its faults."""
    return _read(
        CreatorRow,
        line,
        values,
        {
            "external_id": _text(64),
            "name": _text(200),
            "email": _email,
            "country": _country,
            "time_zone": _time_zone,
            "plan": _code,
            "token": _token,
        },
    )


def read_plan(line: int, values: Mapping[str, str]) -> PlanRow:
    """Read one row; raises RowsRefused with each of its faults."""
    return _read(
        PlanRow,
        line,
        values,
        {
            "code": _code,
            "name": _text(100),
            "price": _price,
            "interval": _interval,
            "interval_count": _count,
        },
    )


def read_rule(line: int, values: Mapping[str, str], *, lanes: Iterable[str]) -> RuleRow:
    """Read one row; an empty lane refuses the country. Raises RowsRefused with each of its faults."""
    row = _read(
        RuleRow,
        line,
        values,
        {
            "country": _country,
            "lane": _one_of(["", *lanes]),
            "valid_from": _date,
            "valid_to": _date_or_none,
            "reason": _text(300),
            "source": _text(300),
            "source_date": _date,
        },
    )
    if row.valid_to and row.valid_to <= row.valid_from:
        raise RowsRefused([Fault(line, "valid_to", "must be after valid_from, or empty")])
    return row


def load_creators(*, account_id: UUID, rows: Sequence[CreatorRow], now: Moment) -> Loaded:
    """Add the creators that are not there yet, with their `creator.created` events.

    Raises RowsRefused when a line is doubled, names a plan nobody knows or a country no lane may
    serve now, or says something else than what is stored.
    """
    with transaction.atomic():
        _refuse(_doubled(rows, key=lambda row: row.external_id, field="external_id"))
        _refuse([*_unknown_plans(rows), *_countries_without_lane(rows, now=now)])
        creators = {row.line: _creator(account_id, row, now) for row in rows}
        added = _insert(
            """
            INSERT INTO checkout_creator (id, account_id, external_id, name, email, country,
                                          time_zone, event_seq, created_at)
            SELECT new.id, %s, new.external_id, new.name, new.email, new.country, new.time_zone,
                   0, %s
              FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
                AS new(id, external_id, name, email, country, time_zone)
             ORDER BY new.id
            ON CONFLICT (id) DO NOTHING
            RETURNING id
            """,
            [
                account_id,
                now.real,
                *_columns(
                    creators.values(), "id", "external_id", "name", "email", "country", "time_zone"
                ),
            ],
        )
        stored = Creator.objects.in_bulk([creator.id for creator in creators.values()])
        _refuse(
            _contradictions(
                ((line, stored[new.id], new) for line, new in creators.items()),
                fields=("name", "email", "country", "time_zone"),
            )
        )
        _announce([stored[key] for key in sorted(added)], now=now)
    return Loaded(added=len(added), already_there=len(rows) - len(added))


def load_plans(*, rows: Sequence[PlanRow]) -> Loaded:
    """Add the plans that are not there yet. A new price is a new plan, so a change is refused (R7)."""
    plans = {
        row.line: Plan(
            code=row.code,
            name=row.name,
            price=row.price,
            interval=row.interval,
            interval_count=row.interval_count,
        )
        for row in rows
    }
    with transaction.atomic():
        _refuse(_doubled(rows, key=lambda row: row.code, field="code"))
        before = Plan.objects.count()
        Plan.objects.bulk_create(plans.values(), ignore_conflicts=True)
        added = Plan.objects.count() - before
        stored = Plan.objects.in_bulk([plan.code for plan in plans.values()])
        _refuse(
            _contradictions(
                ((line, stored[new.code], new) for line, new in plans.items()),
                fields=("name", "price", "interval", "interval_count"),
            )
        )
    return Loaded(added=added, already_there=len(rows) - added)


def load_routing_rules(*, rows: Sequence[RuleRow]) -> Loaded:
    """Add the rules that are not there yet; two rules of a country never hold on the same day."""
    rules = {row.line: _rule(row) for row in rows}
    with transaction.atomic():
        # Two loads at once could each add one half of an overlap.
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE checkout_routingrule IN SHARE ROW EXCLUSIVE MODE")
        _refuse(_doubled(rows, key=lambda r: f"{r.country} {r.valid_from}", field="valid_from"))
        old = {(rule.country, rule.valid_from): rule for rule in RoutingRule.objects.all()}
        known = {line: old.get((new.country, new.valid_from)) for line, new in rules.items()}
        _refuse(
            _contradictions(
                ((line, old_rule, rules[line]) for line, old_rule in known.items() if old_rule),
                fields=("lane", "valid_to", "reason", "source", "source_date"),
            )
        )
        added = {line: new for line, new in rules.items() if known[line] is None}
        _refuse(_overlaps(old=list(old.values()), new=added))
        RoutingRule.objects.bulk_create(added.values())
    return Loaded(added=len(added), already_there=len(rows) - len(added))


def _creator(account_id: UUID, row: CreatorRow, now: Moment) -> Creator:
    return Creator(
        id=Creator.derive_id(account_id=account_id, external_id=row.external_id),
        account_id=account_id,
        external_id=row.external_id,
        name=row.name,
        email=row.email,
        country=row.country,
        time_zone=row.time_zone,
        created_at=now.real,
    )


def _announce(creators: Iterable[Creator], *, now: Moment) -> None:
    """The rows are new and ours alone until the commit, which is the lock that events ask for."""
    for creator in creators:
        outbox.record_event(
            creator_id=creator.id,
            type="creator.created",
            subject=creator.id,
            data={"creator_id": str(creator.id), "occurred_at": now.business.isoformat()},
            now=now,
        )


def _rule(row: RuleRow) -> RoutingRule:
    return RoutingRule(
        country=row.country,
        lane=row.lane,
        valid_from=row.valid_from,
        valid_to=row.valid_to,
        reason=row.reason,
        source=row.source,
        source_date=row.source_date,
    )


def _insert(sql: str, parameters: Sequence[Any]) -> set[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return {row[0] for row in cursor.fetchall()}


def _columns(rows: Iterable[object], *names: str) -> list[list[Any]]:
    rows = list(rows)
    return [[getattr(row, name) for row in rows] for name in names]


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        raise RowsRefused(faults)


def _doubled(rows: Sequence[R], *, key: Callable[[R], str], field: str) -> list[Fault]:
    first: dict[str, int] = {}
    faults = []
    for row in rows:
        if key(row) in first:
            text = f"stands in line {first[key(row)]} already; remove one of them"
            faults.append(Fault(row.line, field, text))
        first.setdefault(key(row), row.line)
    return faults


def _unknown_plans(rows: Sequence[CreatorRow]) -> list[Fault]:
    known = set(Plan.objects.values_list("code", flat=True))
    text = f"is not a plan; known are {', '.join(sorted(known)) or 'none'} (load_plans adds one)"
    return [
        Fault(row.line, "plan", f"{row.plan!r} {text}")
        for row in rows
        if row.plan and row.plan not in known
    ]


def _countries_without_lane(rows: Sequence[CreatorRow], *, now: Moment) -> list[Fault]:
    refused = {}
    for country in {row.country for row in rows}:
        try:
            routing.lane_for(country=country, on=now.business.date())
        except routing.NoLane as error:
            refused[country] = f"{error}; remove the line, or load_routing_rules first"
    return [
        Fault(row.line, "country", refused[row.country]) for row in rows if row.country in refused
    ]


def _contradictions(
    pairs: Iterable[tuple[int, object, object]], *, fields: Sequence[str]
) -> list[Fault]:
    return [
        Fault(
            line,
            field,
            f"is {getattr(new, field)!s} here and {getattr(stored, field)!s} in the database; "
            "a file adds rows and never changes one",
        )
        for line, stored, new in pairs
        for field in fields
        if getattr(stored, field) != getattr(new, field)
    ]


def _overlaps(*, old: Sequence[RoutingRule], new: Mapping[int, RoutingRule]) -> list[Fault]:
    """New rules that hold on a day on which another rule of their country holds too."""
    faults = []
    for line, rule in new.items():
        others = [*old, *(other for number, other in new.items() if number < line)]
        faults += [
            Fault(line, "valid_from", f"overlaps the rule of {rule.country} from {o.valid_from}")
            for o in others
            if o.country == rule.country
            and o.valid_from < (rule.valid_to or date.max)
            and rule.valid_from < (o.valid_to or date.max)
        ]
    return faults


def _read(
    kind: Callable[..., T],
    line: int,
    values: Mapping[str, str],
    readers: Mapping[str, Callable[[str], Any]],
) -> T:
    read: dict[str, Any] = {}
    faults = []
    for field, value in values.items():
        try:
            read[field] = readers[field](_clean(value))
        except ValueError as error:
            faults.append(Fault(line, field, str(error)))
    _refuse(faults)
    return kind(line=line, **read)


def _clean(value: str) -> str:
    if value != value.strip():
        raise ValueError("has spaces around it; remove them")
    if not value.isprintable():
        raise ValueError("holds a control character or a line break; remove it")
    return value


def _text(longest: int) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not value:
            raise ValueError("is empty")
        if len(value) > longest:
            raise ValueError(f"is longer than {longest} characters")
        return value

    return read


def _email(value: str) -> str:
    try:
        validate_email(_text(254)(value))
    except ValidationError:
        raise ValueError(f"{value!r} is not an e-mail address") from None
    return value


def _country(value: str) -> str:
    if not _COUNTRY.fullmatch(value):
        raise ValueError(f"{value!r} is not a country; write its two capital letters, such as KZ")
    return value


def _time_zone(value: str) -> str:
    if value not in _TIME_ZONES:
        raise ValueError(f"{value!r} is not a time zone; write it as Asia/Almaty, or UTC")
    return value


def _token(value: str) -> str:
    # Never repeat the value here: it may be a card number.
    if _CARD_NUMBER.fullmatch(value):
        raise ValueError("looks like a card number; only a processor's token may be stored")
    return _text(128)(value)


def _code(value: str) -> str:
    if not _CODE.fullmatch(value):
        raise ValueError(f"{value!r} is not a code: small letters, digits, - and _, at most 40")
    return value


def _price(value: str) -> Decimal:
    try:
        price = usd(value)
    except NotAnAmount as error:
        raise ValueError(str(error)) from None
    if price < CENT:
        raise ValueError("must be at least 0.01 USD")
    return price


def _interval(value: str) -> str:
    return _one_of(Interval.values)(value)


def _one_of(allowed: Iterable[str]) -> Callable[[str], str]:
    words = list(allowed)

    def read(value: str) -> str:
        if value not in words:
            known = ", ".join(word or "(empty)" for word in words)
            raise ValueError(f"{value!r} is none of {known}")
        return value

    return read


def _count(value: str) -> int:
    if not _COUNT.fullmatch(value):
        raise ValueError(f"{value!r} is not a whole number from 1 to 999")
    return int(value)


def _date(value: str) -> date:
    if not _DATE.fullmatch(value):
        raise ValueError(f"{value!r} is not a date; write it as 2026-01-31")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a day of the calendar") from None


def _date_or_none(value: str) -> date | None:
    return _date(value) if value else None


_TIME_ZONES: Final = frozenset(available_timezones())
