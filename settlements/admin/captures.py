"""Captures by how far they are proved: the lists behind the first line of home."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout import wiring
from checkout.desk import ReadOnlyAdmin, as_uuid, badge, by_id, money
from checkout.models import Charge
from checkout.page import TO, days_named
from checkout.tallies import Tally
from checkout.targets import creators_named
from settlements.admin.proof import proof_link
from settlements.captures import captures, of_proof, tell_proof, within, without_file
from settlements.days import Stretch, captures_in
from settlements.models import Capture, ProofState


def captures_link(
    *, proof: str = "", stretch: Stretch | None = None, lane: str = "", file: str = ""
) -> str:
    """The address of the list of exactly these captures; `file` is "no" for days without an accepted one."""
    days = _named(stretch) if stretch else ""
    chosen = {"proof": proof, "days": days, "lane": lane, "file": file}
    query = urlencode({name: value for name, value in chosen.items() if value}, safe=":")
    return f"{reverse('admin:settlements_capture_changelist')}?{query}"


def _named(stretch: Stretch) -> str:
    return f"{stretch.first}{TO}{stretch.last}"


def _stretch_of(request: HttpRequest) -> Stretch | None:
    """The days an address names; None for all days, or for what is no such thing."""
    found = days_named(request.GET.get("days", ""))
    return Stretch(*found) if found else None


class ProofFilter(admin.SimpleListFilter):
    title = "how far it is proved"
    parameter_name = "proof"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(each.value, str(each.label).lower()) for each in ProofState]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        proof = self.value() or ""
        if proof not in ProofState.values:
            return queryset
        return queryset.filter(of_proof(ProofState(proof), _stretch_of(request)))


class DaysFilter(admin.SimpleListFilter):
    """Days of the lanes' own calendars: the last seven, or those that the address names."""

    title = "day, by its lane"
    parameter_name = "days"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        today = wiring.clock().business_now().date()
        days = [today - timedelta(days=back) for back in range(7)]
        choices = [(_named(Stretch(day, day)), day.isoformat()) for day in days]
        named = _stretch_of(request)
        if named and _named(named) not in dict(choices):
            choices.append((_named(named), f"{named.first} to {named.last}"))
        return choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        stretch = _stretch_of(request)
        return queryset.filter(within(stretch)) if stretch else queryset


class LaneFilter(admin.SimpleListFilter):
    """The lanes of today, and any other that the address names: its captures are still there."""

    title = "lane"
    parameter_name = "lane"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        named = request.GET.get("lane", "")
        lanes = sorted({*settings.LANES, *([named] if named else [])})
        return [(lane, lane) for lane in lanes]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(lane=self.value()) if self.value() else queryset


class FileFilter(admin.SimpleListFilter):
    """What awaits its day's file: also what a discrepancy stands against, which is discrepant for home."""

    title = "file of its day"
    parameter_name = "file"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "not accepted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() != "no":
            return queryset
        return queryset.filter(without_file(_stretch_of(request)))


@admin.register(Capture)
class CaptureAdmin(ReadOnlyAdmin):
    list_display = (
        "booked_at",
        "charge_proof",
        "creator",
        "lane",
        "lanes_day",
        "usd",
        "shown_proof",
    )
    list_display_links = None
    list_filter = (ProofFilter, FileFilter, DaysFilter, LaneFilter)
    list_select_related = ("creator",)
    ordering = ("-booked_at", "-id")
    export_name = "captures"
    search_fields = ("id",)
    search_help_text = "The id of an attempt or of a charge, or a creator's external id"
    total_of = "captured_amount"
    fields = ("id", "charge", "lane", "booked_at", "captured_amount", "processor_reference")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Capture]:
        return captures()

    def named(self, term: str) -> Q:
        if as_uuid(term) is None:
            return Q(creator_id__in=creators_named(term))
        return by_id(term, (Charge, "charge_id"))

    def _list(self, request: HttpRequest, extra_context: dict[str, Any] | None) -> HttpResponse:
        """The list, with how far each capture is proved."""
        response = super()._list(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data:
            found = response.context_data["cl"]
            found.result_list = list(found.result_list)
            tell_proof(found.result_list)
        return response

    def kept(self, request: HttpRequest) -> Tally | None:
        return captures_in(
            proof=request.GET.get("proof", ""),
            stretch=_stretch_of(request),
            lane=request.GET.get("lane", ""),
            is_without_file=request.GET.get("file") == "no",
        )

    @admin.display(description="charge")
    def charge_proof(self, capture: Capture) -> SafeString | str:
        return proof_link(capture.charge_id)

    @admin.display(description="day")
    def lanes_day(self, capture: Capture) -> str:
        return capture.day.isoformat() if capture.day else "—"

    @admin.display(description="captured USD")
    def usd(self, capture: Capture) -> SafeString:
        return format_html('<span class="money">{}</span>', money(capture.captured_amount))

    @admin.display(description="proof")
    def shown_proof(self, capture: Capture) -> SafeString:
        return badge(capture.proof)
