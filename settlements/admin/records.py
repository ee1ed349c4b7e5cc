"""What finance reads: statement lines, the files expected, schedules, fees, passes."""

from datetime import date
from decimal import Decimal
from typing import Final

from django.contrib import admin
from django.db.models import Case, F, Max, Min, Q, When
from django.http import HttpRequest

from checkout.desk import ReadOnlyAdmin, as_uuid
from checkout.filters import filter_by_link, fixed_filter, month_filter
from checkout.lists import Total
from checkout.models import Attempt
from checkout.targets import creators_named
from settlements.expectations import on_lane_days
from settlements.models import (
    ExpectationState,
    FeeTerms,
    Holiday,
    ImportState,
    LineType,
    ReconciliationRun,
    SettlementSchedule,
    StatementExpectation,
    StatementImport,
    StatementLine,
)
from settlements.month import FEE_LINES

T = LineType
_GROSS: Final = Total("gross", "gross")
# What the lines of one figure of the month are, and which part of them it adds up, so that all parts
# together are what the lines but payouts come to. A fee is a line of its own, or what another bore: of
# charges all are listed, as the figure counts them.
WhatFilter = fixed_filter(
    "what",
    "what it is",
    {
        "charges": ("charges", Q(type=T.CHARGE)),
        "refunds": ("refunds", Q(type=T.REFUND)),
        "disputes": ("disputes", Q(type__in=[T.DISPUTE, T.REVERSAL])),
        "fees": (
            "fees",
            Q(type__in=[T.CHARGE, *FEE_LINES]) | (~Q(fee=0) & ~Q(type=T.PAYOUT)),
        ),
        "others": (
            "adjustments and reserves",
            Q(type__in=[T.ADJUSTMENT, T.RESERVE_HOLD, T.RESERVE_RELEASE]),
        ),
        "payouts": ("payouts", Q(type=T.PAYOUT)),
    },
    totals={
        **dict.fromkeys(("charges", "refunds", "disputes", "others"), _GROSS),
        "fees": Total(
            Case(When(type__in=FEE_LINES, then=F("gross")), default=Decimal("0.00")) - F("fee"),
            "fees",
        ),
    },
)


def _booked_in(first: date, last: date) -> Q:
    """By the accepted files of these days: a line lies within the days of its own, by its lane's zone.

    Their ids lie close together, so that of the index by file this stretch alone is read.
    """
    files = StatementImport.objects.filter(
        state=ImportState.ACCEPTED, last_day__gte=first, first_day__lte=last
    ).aggregate(lowest=Min("pk"), highest=Max("pk"))
    return Q(
        statement__state=ImportState.ACCEPTED,
        statement_id__gte=files["lowest"] or 0,
        statement_id__lte=files["highest"] or 0,
    ) & on_lane_days(first=first, last=last, lane="statement__lane")


BookedFilter = month_filter(
    "booked", "month it was booked (lane's zone), in accepted files", _booked_in
)
ThereFilter = fixed_filter(
    "there",
    "whether it is there",
    {
        "yes": ("accepted", Q(state=ExpectationState.ARRIVED)),
        "no": ("not accepted", ~Q(state=ExpectationState.ARRIVED)),
    },
)
BeforeFilter = filter_by_link("before", "days before", lambda day: Q(day__lt=day))
DayFilter = month_filter("month", "month", lambda first, last: Q(day__gte=first, day__lte=last))
OnFilter = filter_by_link("on", "day", lambda day: Q(day=day))
LaneFilter = filter_by_link("lane", "lane", lambda lane: Q(lane=lane), read=str)


@admin.register(StatementLine)
class StatementLineAdmin(ReadOnlyAdmin):
    list_display = ("id", "statement", "number", "type", "booked_at", "gross", "fee", "net", "key")
    list_filter = (WhatFilter, BookedFilter)
    list_select_related = ("statement",)
    ordering = ("-id",)
    total_of = "net"
    export_name = "statement-lines"
    search_fields = ("key",)
    search_help_text = "The id of an attempt (the merchant reference) or of a charge"

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """File by file where a month was asked for: then its files are read, and none since."""
        if BookedFilter.parameter_name in request.GET:
            return ("-statement_id", "-number")
        return self.ordering

    def named(self, term: str) -> Q:
        wanted = as_uuid(term)
        if wanted is None:
            return Q(pk__in=[])
        attempts = Attempt.objects.filter(charge_id=wanted).values_list("id", flat=True)
        return Q(key__in=[wanted, *attempts])


@admin.register(StatementExpectation)
class StatementExpectationAdmin(ReadOnlyAdmin):
    list_display = ("day", "lane", "due_at", "state", "statement")
    list_filter = ("state", ThereFilter, BeforeFilter, DayFilter, OnFilter, LaneFilter)
    list_select_related = ("statement",)
    ordering = ("-day", "lane")


@admin.register(SettlementSchedule)
class SettlementScheduleAdmin(ReadOnlyAdmin):
    list_display = (
        "creator",
        "version",
        "interval",
        "anchor_days",
        "delay_days",
        "holiday_rule",
        "calendar",
        "active_from",
        "active_to",
        "source",
    )
    list_select_related = ("creator",)
    ordering = ("creator_id", "version")
    search_fields = ("id",)
    search_help_text = "A creator's id or external id"

    def named(self, term: str) -> Q:
        wanted = as_uuid(term)
        return Q(creator_id__in=[wanted] if wanted else creators_named(term))


@admin.register(Holiday)
class HolidayAdmin(ReadOnlyAdmin):
    list_display = ("day", "calendar", "name")
    ordering = ("-day", "calendar")


@admin.register(FeeTerms)
class FeeTermsAdmin(ReadOnlyAdmin):
    list_display = ("lane", "valid_from", "rate", "fixed")
    ordering = ("lane", "-valid_from")


@admin.register(ReconciliationRun)
class ReconciliationRunAdmin(ReadOnlyAdmin):
    list_display = (
        "started_at",
        "mode",
        "kinds",
        "creators",
        "marks",
        "opened",
        "cleared",
        "standing",
    )
    list_filter = ("mode",)
    ordering = ("-started_at", "-id")
