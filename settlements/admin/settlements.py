"""What finance reads of settlements: closed periods with their lines, those still open, and payouts."""

from datetime import date

from django.contrib import admin
from django.db.models import OuterRef, Q, Subquery
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout.desk import ReadOnlyAdmin, ReadOnlyInline, as_uuid, badge, by_id, money
from checkout.filters import filter_by_link, fixed_filter
from checkout.lists import Total
from checkout.page import month_named
from checkout.targets import creators_named
from settlements.admin.booked import in_the_books
from settlements.models import (
    LEFT,
    Booking,
    OpenPeriod,
    Payout,
    PayoutCredit,
    PayoutPart,
    Settlement,
    SettlementLine,
)
from settlements.month import on_the_way

# What has left is added up as it left, as *Cash* and home say it: not as what its lines come to.
_AS_LEFT = Total("paid", "left")
PayoutStateFilter = fixed_filter(
    "standing",
    "state",
    {
        "gathering": ("gathering", Q(value_on__isnull=True)),
        "left": ("left, not landed", LEFT),
        "landed": ("landed", Q(landed_on__isnull=False)),
    },
    totals={"left": _AS_LEFT},
)


LandsFilter = filter_by_link(
    "lands", "not proved, lands on", lambda day: Q(proved_at=None, lands_on=day)
)
LeftFilter = filter_by_link(
    "left",
    "not landed, left on",
    lambda day: Q(landed_on=None, value_on=day),
    total=lambda _: _AS_LEFT,
)
LeftBeforeFilter = filter_by_link(
    "left_before",
    "not landed, left before",
    lambda day: Q(landed_on=None, value_on__lt=day),
    total=lambda _: _AS_LEFT,
)
LandedFilter = filter_by_link("landed", "landed on", lambda day: Q(landed_on=day))
KeptFilter = filter_by_link(
    "kept",
    "kept by the bank in",
    lambda month: ~Q(kept=0) & Q(landed_on__range=month),
    read=month_named,
    total=lambda _: Total("kept", "kept by the bank"),
)
OnTheWayFilter = filter_by_link(
    "on_the_way",
    "on the way to the bank at the end of",
    lambda day: Q(pk__in=on_the_way(day).values("pk")),
    total=lambda day: Total(
        Subquery(on_the_way(day).filter(pk=OuterRef("pk")).values("under_way")), "on the way"
    ),
)
LaneFilter = filter_by_link("lane", "lane", lambda lane: Q(lane=lane), read=str)


class SettlementLineInline(ReadOnlyInline):
    model = SettlementLine
    ordering = ("occurred_at", "id")
    fields = ("occurred_at", "kind", "amount", "lane", "charge")
    show_change_link = False


@admin.register(Settlement)
class SettlementAdmin(ReadOnlyAdmin):
    list_display = (
        "closed_at",
        "creator",
        "period_start",
        "period_end",
        "net",
        "line_count",
        "lands_on",
        "shown_state",
    )
    list_select_related = ("creator",)
    list_filter = (LandsFilter,)
    ordering = ("-closed_at", "-id")
    export_name = "settlements"
    total_of = "net"
    search_fields = ("id",)
    search_help_text = "The id of a settlement, a creator's id or external id"
    inlines = (SettlementLineInline,)

    def named(self, term: str) -> Q:
        if as_uuid(term) is None:
            return Q(creator_id__in=creators_named(term))
        return by_id(term, (Settlement, "id"), otherwise="creator_id")

    @admin.display(description="state")
    def shown_state(self, settlement: Settlement) -> SafeString:
        return badge("proved", "proved") if settlement.proved_at else badge("awaiting", "closed")


@admin.register(OpenPeriod)
class OpenPeriodAdmin(ReadOnlyAdmin):
    list_display = ("creator", "starts_on", "ends_on", "schedule")
    list_select_related = ("creator", "schedule")
    ordering = ("ends_on", "creator_id")
    search_fields = ("creator_id",)
    search_help_text = "A creator's id or external id"

    def named(self, term: str) -> Q:
        wanted = as_uuid(term)
        return Q(creator_id__in=[wanted] if wanted else creators_named(term))


class PayoutPartInline(ReadOnlyInline):
    model = PayoutPart
    ordering = ("id",)
    fields = ("statement", "gross", "refunds", "disputes", "fees", "net", "paid", "line_count")
    show_change_link = False


class PayoutCreditInline(ReadOnlyInline):
    model = PayoutCredit
    ordering = ("id",)
    fields = ("entry", "booked_on", "value_on", "amount")
    readonly_fields = ("booked_on", "value_on", "amount")
    show_change_link = False

    @admin.display(description="booked on")
    def booked_on(self, credit: PayoutCredit) -> date:
        return credit.entry.booked_on

    @admin.display(description="value on")
    def value_on(self, credit: PayoutCredit) -> date | None:
        return credit.entry.value_on

    @admin.display(description="USD")
    def amount(self, credit: PayoutCredit) -> SafeString:
        return format_html('<span class="money">{}</span>', money(credit.entry.net))


@admin.register(Payout)
class PayoutAdmin(ReadOnlyAdmin):
    list_display = (
        "reference",
        "lane",
        "value_on",
        "gross",
        "fees",
        "net",
        "paid",
        "landed_on",
        "kept",
        "shown_state",
    )
    list_filter = (
        PayoutStateFilter,
        LeftFilter,
        LeftBeforeFilter,
        LandedFilter,
        KeptFilter,
        OnTheWayFilter,
        LaneFilter,
    )
    ordering = ("-value_on", "-id")
    export_name = "payouts"
    total_of = "net"
    search_fields = ("reference",)
    search_help_text = "The processor's id of a payout"
    readonly_fields = ("booked",)
    inlines = (PayoutPartInline, PayoutCreditInline)

    def named(self, term: str) -> Q:
        return Q(reference=term)

    @admin.display(description="in the books")
    def booked(self, payout: Payout) -> SafeString | str:
        of_it = Q(payout=payout) | Q(credit__payout=payout)
        return in_the_books(Booking.objects.filter(of_it))

    @admin.display(description="state")
    def shown_state(self, payout: Payout) -> SafeString:
        if payout.landed_on:
            return badge("proved", "landed")
        return badge("awaiting", "left" if payout.value_on else "gathering")
