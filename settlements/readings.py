"""What does not agree, how fresh that knowledge is, and which files are late; read cheaply."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.db.models import Count, Exists, F, Min, OuterRef, Q, Sum
from django.db.models.functions import Abs

from checkout.readings import Pile
from settlements.models import (
    STANDING,
    Discrepancy,
    ExpectationState,
    ExportRun,
    ExportState,
    Notice,
    NoticeDelivery,
    ReconcileDirty,
    ReconciliationRun,
    RunMode,
    StatementExpectation,
)

NOTHING: Final = Decimal("0.00")


@dataclass(frozen=True)
class Freshness:
    """When a pass of a mode last began (real time), and what it left standing."""

    mode: str
    started_at: datetime
    standing: int

    def age(self, now: datetime) -> float:
        """Seconds since it began."""
        return max(0.0, (now - self.started_at).total_seconds())


def open_discrepancies() -> dict[str, Pile]:
    """Standing discrepancies by kind; USD is what they differ by, whichever way."""
    rows = (
        Discrepancy.objects.filter(STANDING)
        .values("kind")
        .order_by("kind")
        .annotate(count=Count("id"), usd=Sum(Abs(F("difference"))), oldest=Min("opened_at"))
    )
    return {r["kind"]: Pile(r["count"], r["usd"] or NOTHING, r["oldest"]) for r in rows}


def freshness() -> list[Freshness]:
    """The newest pass of each mode that ran to its end."""
    newest = (
        ReconciliationRun.objects.filter(mode=mode, ended_at__isnull=False)
        .order_by("-started_at", "-id")
        .first()
        for mode in RunMode.values
    )
    return [Freshness(run.mode, run.started_at, run.standing) for run in newest if run]


def is_last_pass_whole() -> bool:
    """Whether the newest incremental pass could compare all kinds; one that could not has no end."""
    passes = ReconciliationRun.objects.filter(mode=RunMode.INCREMENTAL)
    newest = passes.order_by("-started_at", "-id").first()
    return newest is None or newest.ended_at is not None


def oldest_mark() -> datetime | None:
    """Since when the oldest change waits for a pass to look at it."""
    return ReconcileDirty.objects.order_by("id").values_list("marked_at", flat=True).first()


def statement_days() -> dict[str, int]:
    """Days of lanes whose file is not accepted, by state: expected, late, quarantined."""
    rows = (
        StatementExpectation.objects.exclude(state=ExpectationState.ARRIVED)
        .values("state")
        .order_by("state")
        .annotate(count=Count("id"))
    )
    return {row["state"]: row["count"] for row in rows}


def exports_waiting() -> Pile:
    """Exports that were asked for and are neither made nor failed; they carry no USD."""
    waiting = ExportRun.objects.filter(state=ExportState.ASKED)
    found = waiting.aggregate(count=Count("id"), oldest=Min("asked_at"))
    return Pile(count=found["count"], oldest=found["oldest"])


def notices_waiting() -> Pile:
    """Notices that not every way of theirs took yet, or that have no way; they carry no USD."""
    deliveries = NoticeDelivery.objects.filter(notice=OuterRef("pk"))
    waiting = Notice.objects.filter(
        Q(Exists(deliveries.filter(told_at__isnull=True))) | ~Q(Exists(deliveries))
    ).aggregate(count=Count("id"), oldest=Min("noticed_at"))
    return Pile(count=waiting["count"], oldest=waiting["oldest"])
