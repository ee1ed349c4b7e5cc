"""What finance reads of settlements: closed periods with their lines, and those still open."""

from django.contrib import admin
from django.db.models import Q
from django.utils.safestring import SafeString

from checkout.desk import ReadOnlyAdmin, ReadOnlyInline, as_uuid, badge, by_id
from checkout.targets import creators_named
from settlements.models import OpenPeriod, Settlement, SettlementLine


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
    ordering = ("-closed_at", "-id")
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
