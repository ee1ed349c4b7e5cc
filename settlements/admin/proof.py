"""The page that proves one charge.

It needs attempts, books, events and statements at once, so it lives here; it hangs below the charge's
own page of checkout's admin by its address alone, which that page links to by name.
"""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout import wiring
from checkout.desk import short
from checkout.models import Charge
from checkout.page import Printed, in_snapshot
from settlements.proof import prove
from settlements.timeline import timeline


def proof(request: HttpRequest, charge_id: UUID) -> HttpResponse:
    """The page that proves one charge, for everybody who may see charges."""
    if not request.user.has_perm("checkout.view_charge"):
        raise PermissionDenied
    return in_snapshot(lambda: _proof(request, charge_id))


def _proof(request: HttpRequest, charge_id: UUID) -> HttpResponse:
    charge = get_object_or_404(
        Charge.objects.select_related("creator", "subscription", "terms"), pk=charge_id
    )
    now = wiring.clock().now()
    proved = prove(charge=charge, now=now)
    context: dict[str, Any] = admin.site.each_context(request) | {
        "title": "Proof of a charge",
        "charge": charge,
        "proof": proved,
        "timeline": timeline(proved.facts),
        "printed": Printed(at=now.real),
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
