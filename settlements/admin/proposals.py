"""What was proposed about discrepancies, and the page on which another person decides it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout.clock import Moment
from checkout.desk import (
    ReadOnlyAdmin,
    ReasonForm,
    badge,
    decide_proposed,
    fixed_filter,
    money,
    require_right,
)
from settlements import resolving
from settlements.admin.proof import proof_link
from settlements.models import Decision, Proposal, ProposalItem, Way, digest_of

BADGES: Final = {
    Decision.OPEN: "open",
    Decision.APPROVED: "proved",
    Decision.REFUSED: "refused",
    Decision.WITHDRAWN: "closed",
}

DecisionFilter = fixed_filter(
    "decision",
    "decision",
    {
        "open": ("waits for another person", Q(decision="")),
        "approved": ("approved", Q(decision="approved")),
        "refused": ("refused", Q(decision="refused")),
        "withdrawn": ("withdrawn", Q(decision="withdrawn")),
    },
)


@dataclass(frozen=True)
class Shown:
    """An item as the approver sees it: proposed and present amounts, and what would be posted."""

    item: ProposalItem
    what: str
    proof: SafeString | str
    difference: str
    posted: str
    is_changed: bool


@admin.register(Proposal)
class ProposalAdmin(ReadOnlyAdmin):
    list_display = (
        "proposed_at",
        "proposed_by",
        "way",
        "count",
        "usd",
        "reason",
        "shown_state",
        "decided_by",
    )
    list_display_links = ("proposed_at",)
    list_filter = (DecisionFilter,)
    ordering = ("-proposed_at", "-id")
    total_of = "net"

    @admin.display(description="net USD")
    def usd(self, proposal: Proposal) -> SafeString:
        return format_html('<span class="money">{}</span>', f"{proposal.net:+,.2f}")

    @admin.display(description="state")
    def shown_state(self, proposal: Proposal) -> SafeString:
        decision = Decision(proposal.decision)
        return badge(BADGES[decision], "waits" if decision == Decision.OPEN else str(decision))

    def get_urls(self) -> list[URLPattern]:
        decide = path(
            "<int:proposal_id>/decide/",
            self.admin_site.admin_view(self.decide_view),
            name="settlements_proposal_decide",
        )
        return [decide, *super().get_urls()]

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Exactly what would be approved, as it stands at this moment."""
        items = list(
            row.items.select_related("discrepancy", "entry", "reversal").order_by("discrepancy_id")
        )
        shown = [_shown(item, row) for item in items]
        present = [(i.discrepancy_id, i.discrepancy.expected, i.discrepancy.actual) for i in items]
        mine = row.proposed_by == request.user.get_username()
        is_open = row.decision == Decision.OPEN
        return {
            "shown": shown,
            "seen": digest_of(row.way, present),
            "is_changed": any(each.is_changed for each in shown),
            "is_open": is_open,
            "state": self.shown_state(row),
            "net": f"{row.net:+,.2f}",
            "absolute": money(row.absolute),
            "may_approve": is_open and not mine and self.has_approve_permission(request),
            "may_withdraw": is_open and request.user.has_perm("settlements.change_discrepancy"),
            "is_mine": mine,
            "form": ReasonForm(),
        }

    def decide_view(self, request: HttpRequest, proposal_id: int) -> HttpResponse:
        """Approve, refuse or withdraw with a reason; then back to the proposal's page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        decision, by = request.POST.get("decision", ""), request.user.get_username()
        require_right(
            decision,
            may_approve=self.has_approve_permission(request),
            may_withdraw=request.user.has_perm("settlements.change_discrepancy"),
        )
        return decide_proposed(
            self,
            request,
            get_object_or_404(Proposal, pk=proposal_id),
            act=lambda reason, seen: _act(
                decision, proposal_id=proposal_id, seen=seen, by=by, reason=reason
            ),
            refusals=resolving.NotDecidable,
        )


def _act(
    decision: str, *, proposal_id: int, seen: str, by: str, reason: str
) -> Callable[[Moment], Proposal]:
    match decision:
        case "approve":
            return lambda now: resolving.approve(
                proposal_id=proposal_id, seen=seen, by=by, reason=reason, now=now
            )
        case "refuse":
            return lambda now: resolving.refuse(
                proposal_id=proposal_id, by=by, reason=reason, now=now
            )
        case _:
            return lambda now: resolving.withdraw(
                proposal_id=proposal_id, by=by, reason=reason, now=now
            )


def _shown(item: ProposalItem, proposal: Proposal) -> Shown:
    found = item.discrepancy
    difference = item.actual - item.expected
    posted = "nothing"
    if proposal.way == Way.CORRECTED:
        against = resolving.corrected_against(difference)
        posted = f"receivable {difference:+,.2f}, {against.label.lower()} {-difference:+,.2f}"
    undecided = proposal.decision == Decision.OPEN
    return Shown(
        item=item,
        what=f"{found.kind}: {found.code.replace('_', ' ')}",
        proof=proof_link(found.charge_id),
        difference=f"{difference:+,.2f}",
        posted=posted,
        is_changed=undecided
        and (
            (found.expected, found.actual) != (item.expected, item.actual) or not found.is_standing
        ),
    )
