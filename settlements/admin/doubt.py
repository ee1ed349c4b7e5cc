"""The in-doubt desk: everything known of each attempt in doubt, and the decision two people take."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from checkout import tallies, wiring
from checkout.models import ChargeState
from checkout.page import Printed, in_snapshot
from checkout.tallies import Tally
from settlements.doubt import MOST_SHOWN, doubts


def in_doubt(request: HttpRequest) -> HttpResponse:
    """For everybody who may see attempts; who may propose or approve finds the buttons."""
    if not request.user.has_perm("checkout.view_attempt"):
        raise PermissionDenied
    return in_snapshot(lambda: _in_doubt(request))


def _in_doubt(request: HttpRequest) -> HttpResponse:
    now = wiring.clock().now()
    all_of_them = tallies.charges_by_state().get(ChargeState.IN_DOUBT, Tally())
    page, pages = _page(request, of=all_of_them.count)
    shown = doubts(now=now, page=page)
    first = (page - 1) * MOST_SHOWN + 1
    context: dict[str, Any] = admin.site.each_context(request) | {
        "title": "In doubt",
        "printed": Printed(
            at=now.real,
            chosen="charges in doubt"
            if pages == 1
            else f"charges in doubt, shown {first:,} to {first + len(shown) - 1:,}, oldest first",
            count=all_of_them.count,
            noun="charge" if all_of_them.count == 1 else "charges",
            usd=all_of_them.usd,
        ),
        "doubts": shown,
        "page": page,
        "pages": pages,
        "before": page - 1,
        "after": page + 1 if page < pages else 0,
        "now": now,
        "me": request.user.get_username(),
        "may_propose": request.user.has_perm("checkout.change_attempt"),
        "may_approve": request.user.has_perm("checkout.approve_case"),
        "may_match": request.user.has_perm("settlements.change_discrepancy"),
    }
    return TemplateResponse(request, "admin/in_doubt.html", context)


def _page(request: HttpRequest, *, of: int) -> tuple[int, int]:
    """Which page was asked for, the nearest there is, and how many there are."""
    pages = max(1, -(-of // MOST_SHOWN))
    asked = request.GET.get("page", "")
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else 1
    return min(max(number, 1), pages), pages
