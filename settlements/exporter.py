"""The figures of settlements for /metrics: discrepancies, freshness, late files, what pages."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from django.conf import settings
from prometheus_client.core import Metric

from checkout import metrics
from checkout.exporter import Reading, gauge
from checkout.readings import Pile
from settlements import paging, readings
from settlements.models import ExpectationState, Kind


def read_discrepancies(now: datetime) -> Iterator[Metric]:
    found = readings.open_discrepancies()
    piles = {kind: found.get(kind, Pile()) for kind in Kind.values}
    yield gauge(
        metrics.DISCREPANCIES,
        "Standing discrepancies",
        (({"kind": kind}, pile.count) for kind, pile in piles.items()),
    )
    yield gauge(
        metrics.DISCREPANCIES_USD,
        "USD by which they differ",
        (({"kind": kind}, pile.usd) for kind, pile in piles.items()),
    )
    yield gauge(
        metrics.DISCREPANCIES_OLDEST,
        "Seconds the oldest stands",
        (({"kind": kind}, pile.age(now)) for kind, pile in piles.items()),
    )


def read_freshness(now: datetime) -> Iterator[Metric]:
    passes = readings.freshness()
    yield gauge(
        metrics.RECONCILE_AGE,
        "Seconds since a reconciliation pass last began, by mode",
        (({"mode": last.mode}, last.age(now)) for last in passes),
    )
    mark = readings.oldest_mark()
    waiting = max(0.0, (now - mark).total_seconds()) if mark else 0.0
    yield gauge(
        metrics.RECONCILE_WAITING, "Seconds the oldest change waits for a pass", [({}, waiting)]
    )


def read_statement_days(now: datetime) -> Iterator[Metric]:  # noqa: ARG001
    days = readings.statement_days()
    states = (ExpectationState.EXPECTED, ExpectationState.LATE, ExpectationState.QUARANTINED)
    yield gauge(
        metrics.STATEMENT_DAYS,
        "Days of lanes without an accepted statement",
        (({"state": state.value}, days.get(state.value, 0)) for state in states),
    )


def read_pages(now: datetime) -> Iterator[Metric]:
    above = paging.standing(now=now).above(paging.Limits(**settings.FINANCE_PAGE))
    yield gauge(
        metrics.FINANCE_PAGE,
        "Whether the pager rings for finance, by reason",
        (({"reason": reason.value}, int(reason in above)) for reason in paging.Reason),
    )


def read_notices(now: datetime) -> Iterator[Metric]:
    waiting = readings.notices_waiting()
    yield gauge(metrics.NOTICES_WAITING, "Notices that finance was not told", [({}, waiting.count)])
    yield gauge(
        metrics.NOTICES_OLDEST, "Seconds the oldest of them waits", [({}, waiting.age(now))]
    )


def read_exports(now: datetime) -> Iterator[Metric]:
    waiting = readings.exports_waiting()
    yield gauge(metrics.EXPORTS_WAITING, "Exports asked for, not made yet", [({}, waiting.count)])
    yield gauge(
        metrics.EXPORTS_OLDEST, "Seconds the oldest of them waits", [({}, waiting.age(now))]
    )


SETTLEMENTS: Final[tuple[Reading, ...]] = (
    read_discrepancies,
    read_freshness,
    read_statement_days,
    read_pages,
    read_notices,
    read_exports,
)
