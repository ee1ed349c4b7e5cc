"""What finance looks at: the proof of a charge, discrepancies, statements, schedules, passes.

The proof needs attempts, books, events and statements at once, so it lives here; it hangs below the
charge's own page of checkout's admin by its address alone (settlements/urls.py), which that page links
to by name. checkout imports nothing of this.
"""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout import wiring
from checkout.desk import (
    ReadOnlyAdmin,
    ReadOnlyInline,
    as_uuid,
    badge,
    by_id,
    fixed_filter,
    money,
    short,
)
from checkout.models import Attempt, Charge
from checkout.targets import creators_named
from settlements.models import (
    Discrepancy,
    FeeTerms,
    Holiday,
    ReconciliationRun,
    RouteSchedule,
    SettlementSchedule,
    StatementExpectation,
    StatementImport,
    StatementLine,
)
from settlements.proof import prove
from settlements.timeline import timeline


def proof(request: HttpRequest, charge_id: UUID) -> HttpResponse:
    """The page that proves one charge, for everybody who may see charges."""
    if not request.user.has_perm("checkout.view_charge"):
        raise PermissionDenied
    charge = get_object_or_404(
        Charge.objects.select_related("creator", "subscription", "terms"), pk=charge_id
    )
    proved = prove(charge=charge, now=wiring.clock().now())
    context: dict[str, Any] = admin.site.each_context(request) | {
        "title": "Proof of a charge",
        "charge": charge,
        "proof": proved,
        "timeline": timeline(proved.facts),
        "opts": Charge._meta,
    }
    return TemplateResponse(request, "admin/checkout/charge/proof.html", context)


def proof_link(charge_id: UUID | None) -> SafeString | str:
    """A link to the proof, or a dash for what is about no charge."""
    if charge_id is None:
        return "—"
    return format_html(
        '<a href="{}">{}</a>', reverse("charge_proof", args=[charge_id]), short(charge_id)
    )


# In the words of the partial index.
StandingFilter = fixed_filter(
    "standing",
    "standing or cleared",
    {
        "yes": ("standing", Q(cleared_at__isnull=True)),
        "no": ("cleared", Q(cleared_at__isnull=False)),
    },
)


@admin.register(Discrepancy)
class DiscrepancyAdmin(ReadOnlyAdmin):
    list_display = (
        "opened_at",
        "kind",
        "code",
        "usd",
        "explanation",
        "charge_proof",
        "shown_state",
    )
    list_display_links = ("opened_at",)
    list_filter = ("kind", StandingFilter)
    list_select_related = ("creator",)
    ordering = ("-opened_at", "-id")
    search_fields = ("id",)
    search_help_text = "The id of a charge or a creator, or a creator's external id"
    readonly_fields = ("charge_proof",)

    def named(self, term: str) -> Q:
        if as_uuid(term) is None:
            return Q(creator_id__in=creators_named(term))
        return by_id(term, (Charge, "charge_id"), otherwise="creator_id")

    @admin.display(description="USD")
    def usd(self, found: Discrepancy) -> SafeString:
        return format_html('<span class="money">{}</span>', money(found.difference))

    @admin.display(description="proof")
    def charge_proof(self, found: Discrepancy) -> SafeString | str:
        return proof_link(found.charge_id)

    @admin.display(description="state")
    def shown_state(self, found: Discrepancy) -> SafeString:
        return badge("proved", "cleared") if found.cleared_at else badge("discrepant", "standing")


class DayInline(ReadOnlyInline):
    model = StatementExpectation
    ordering = ("lane", "day")
    fields = ("lane", "day", "due_at", "state")
    show_change_link = False


@admin.register(StatementImport)
class StatementImportAdmin(ReadOnlyAdmin):
    list_display = (
        "imported_at",
        "file_name",
        "lane",
        "first_day",
        "last_day",
        "line_count",
        "movement",
        "shown_state",
        "reason",
    )
    list_display_links = ("file_name",)
    ordering = ("-imported_at", "-id")
    inlines = (DayInline,)

    @admin.display(description="state")
    def shown_state(self, file: StatementImport) -> SafeString:
        return badge("proved" if file.state == "accepted" else "discrepant", file.state)


@admin.register(StatementLine)
class StatementLineAdmin(ReadOnlyAdmin):
    list_display = ("id", "statement", "number", "type", "booked_at", "gross", "fee", "net", "key")
    list_select_related = ("statement",)
    ordering = ("-id",)
    search_fields = ("key",)
    search_help_text = "The id of an attempt (the merchant reference) or of a charge"

    def named(self, term: str) -> Q:
        wanted = as_uuid(term)
        if wanted is None:
            return Q(pk__in=[])
        attempts = Attempt.objects.filter(charge_id=wanted).values_list("id", flat=True)
        return Q(key__in=[wanted, *attempts])


@admin.register(StatementExpectation)
class StatementExpectationAdmin(ReadOnlyAdmin):
    list_display = ("day", "lane", "due_at", "state", "statement")
    list_filter = ("state",)
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


@admin.register(RouteSchedule)
class RouteScheduleAdmin(ReadOnlyAdmin):
    list_display = (
        "lane",
        "valid_from",
        "interval",
        "anchor_days",
        "delay_days",
        "holiday_rule",
        "calendar",
    )
    ordering = ("lane", "-valid_from")


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
