"""Rows into tables: all of a file or nothing, in one transaction, set-based."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from checkout import outbox, routing
from checkout.clock import Moment
from checkout.loading.rows import CreatorRow, Fault, PlanRow, R, RuleRow, refuse
from checkout.models import Creator, Plan, RoutingRule


@dataclass(frozen=True)
class Loaded:
    """What a load did."""

    added: int
    already_there: int


def load_creators(*, account_id: UUID, rows: Sequence[CreatorRow], now: Moment) -> Loaded:
    """Add the creators that are not there yet, with their `creator.created` events.

    Raises RowsRefused when a line is doubled, names a plan nobody knows or a country no lane may
    serve now, or says something else than what is stored.
    """
    with transaction.atomic():
        refuse(_doubled(rows, key=lambda row: row.external_id, field="external_id"))
        refuse([*_unknown_plans(rows), *_countries_without_lane(rows, now=now)])
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
            -- No index is named: of two loads at once, one may meet the other's row in either of the two.
            ON CONFLICT DO NOTHING
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
        names = [row.external_id for row in rows]
        there = Creator.objects.filter(account_id=account_id, external_id__in=names)
        stored = {creator.external_id: creator for creator in there}
        refuse(
            _contradictions(
                ((line, stored[new.external_id], new) for line, new in creators.items()),
                fields=("id", "name", "email", "country", "time_zone"),
            )
        )
        new_ones = (creator for creator in there if creator.id in added)
        _announce(sorted(new_ones, key=lambda creator: creator.id), now=now)
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
        refuse(_doubled(rows, key=lambda row: row.code, field="code"))
        before = Plan.objects.count()
        Plan.objects.bulk_create(plans.values(), ignore_conflicts=True)
        added = Plan.objects.count() - before
        stored = Plan.objects.in_bulk([plan.code for plan in plans.values()])
        refuse(
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
        refuse(_doubled(rows, key=lambda r: f"{r.country} {r.valid_from}", field="valid_from"))
        old = {(rule.country, rule.valid_from): rule for rule in RoutingRule.objects.all()}
        known = {line: old.get((new.country, new.valid_from)) for line, new in rules.items()}
        refuse(
            _contradictions(
                ((line, old_rule, rules[line]) for line, old_rule in known.items() if old_rule),
                fields=("lane", "valid_to", "reason", "source", "source_date"),
            )
        )
        added = {line: new for line, new in rules.items() if known[line] is None}
        refuse(_overlaps(old=list(old.values()), new=added))
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
