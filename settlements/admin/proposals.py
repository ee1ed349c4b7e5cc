"""What was proposed about discrepancies or as a match, and the page on which another person decides it."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F, Q
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout import wiring
from checkout.clock import Moment
from checkout.desk import (
    SAY_WHY,
    ReadOnlyAdmin,
    ReasonForm,
    badge,
    decide_proposed,
    in_commit,
    money,
    reason_below,
    require_right,
)
from checkout.filters import filter_by_link, filter_by_person, fixed_filter
from checkout.models import LedgerAccount
from checkout.page import month_named
from checkout.requeues import by_another
from settlements import matching, resolving
from settlements.admin.matching import match_of_proposal
from settlements.admin.proof import proof_link
from settlements.models import Decision, Discrepancy, Proposal, ProposalItem, Way, digest_of
from settlements.month import corrected_in

DECISION_BADGES: Final = {
    Decision.OPEN: "open",
    Decision.APPROVED: "proved",
    Decision.REFUSED: "refused",
    Decision.WITHDRAWN: "closed",
}

# Seconds: ten thousand are locked, posted and written down in one transaction.
PATIENCE: Final = 60
# Rows of a proposal on its page; a group of one cause may hold thousands.
MOST_SHOWN: Final = 200

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
CorrectedFilter = filter_by_link(
    "corrected",
    "corrected captures of",
    lambda month: Q(
        pk__in=corrected_in(first=month[0], last=month[1]).values("proposal"),
    ),
    read=month_named,
)


def waits_for(person: str) -> Q:
    """Proposals, or closes of the books, that this person may decide: another proposed them (R43)."""
    return Q(decision=Decision.OPEN) & by_another(person)


WaitingFilter = filter_by_person("waiting", "waits for", {"me": ("me", waits_for)})


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
    list_filter = (DecisionFilter, WaitingFilter, CorrectedFilter)
    ordering = ("-proposed_at", "-id")
    export_name = "proposals"
    total_of = "net"

    @admin.display(description="net USD")
    def usd(self, proposal: Proposal) -> SafeString:
        return format_html('<span class="money">{}</span>', f"{proposal.net:+,.2f}")

    @admin.display(description="state")
    def shown_state(self, proposal: Proposal) -> SafeString:
        decision = Decision(proposal.decision)
        return badge(
            DECISION_BADGES[decision], "waits" if decision == Decision.OPEN else str(decision)
        )

    def get_urls(self) -> list[URLPattern]:
        decide = path(
            "<int:proposal_id>/decide/",
            self.admin_site.admin_view(self.decide_view),
            name="settlements_proposal_decide",
        )
        take_apart = path(
            "<int:proposal_id>/take-apart/",
            self.admin_site.admin_view(self.take_apart_view),
            name="settlements_proposal_take_apart",
        )
        return [decide, take_apart, *super().get_urls()]

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Exactly what would be approved, as it stands at this moment."""
        mine = row.proposed_by == request.user.get_username()
        is_open = row.decision == Decision.OPEN
        about = match_of_proposal(row) if row.way == Way.MATCHED else _about(row)
        return about | {
            "is_match": row.way == Way.MATCHED,
            "is_open": is_open,
            "state": self.shown_state(row),
            "net": f"{row.net:+,.2f}",
            "absolute": money(row.absolute),
            "may_approve": is_open and not mine and self.has_approve_permission(request),
            "may_withdraw": is_open and request.user.has_perm("settlements.change_discrepancy"),
            "may_take_apart": request.user.has_perm("settlements.change_discrepancy"),
            "is_mine": mine,
            "form": reason_below(),
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
        proposal = get_object_or_404(Proposal, pk=proposal_id)
        return decide_proposed(
            self,
            request,
            proposal,
            act=lambda reason, seen: _act(decision, proposal, seen=seen, by=by, reason=reason),
            refusals=resolving.NotDecidable,
            commit=_in_commit,
        )

    def take_apart_view(self, request: HttpRequest, proposal_id: int) -> HttpResponse:
        """Let an approved match be believed no more, with a reason; then back to its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm("settlements.change_discrepancy"):
            raise PermissionDenied
        proposal, form = get_object_or_404(Proposal, pk=proposal_id), ReasonForm(request.POST)
        back = HttpResponseRedirect(
            reverse("admin:settlements_proposal_change", args=[proposal_id])
        )
        if not form.is_valid():
            self.message_user(request, SAY_WHY, messages.ERROR)
            return back
        by, reason = request.user.get_username(), form.cleaned_data["reason"]

        def take_apart(now: Moment) -> None:
            matching.take_apart(proposal_id=proposal_id, by=by, reason=reason, now=now)
            self.log_change(request, proposal, f"taken apart: {reason}")

        try:
            in_commit(take_apart)
        except resolving.NotDecidable as refusal:
            self.message_user(request, f"Nothing was done: {refusal}.", messages.WARNING)
            return back
        self.message_user(request, f"{proposal} is taken apart.".capitalize())
        return back


def _in_commit(work: Callable[[Moment], Proposal]) -> Proposal:
    return in_commit(work, deadline=PATIENCE)


def _act(
    decision: str, proposal: Proposal, *, seen: str, by: str, reason: str
) -> Callable[[Moment], Proposal]:
    match decision:
        case "approve" if proposal.way == Way.MATCHED:
            return lambda now: matching.approve(
                proposal_id=proposal.pk,
                seen=seen,
                by=by,
                reason=reason,
                now=now,
                gateways=wiring.gateways(),
                ages=wiring.ages(),
            )
        case "approve":
            return lambda now: resolving.approve(
                proposal_id=proposal.pk, seen=seen, by=by, reason=reason, now=now
            )
        case "refuse":
            return lambda now: resolving.refuse(
                proposal_id=proposal.pk, by=by, reason=reason, now=now
            )
        case _:
            return lambda now: resolving.withdraw(
                proposal_id=proposal.pk, by=by, reason=reason, now=now
            )


def _about(proposal: Proposal) -> dict[str, Any]:
    """All of it in the digest, the first rows in the table; the list behind them shows the others."""
    items = proposal.items.order_by("discrepancy_id")
    first = items.select_related("discrepancy", "entry", "reversal")[:MOST_SHOWN]
    present = items.values_list("discrepancy_id", "discrepancy__expected", "discrepancy__actual")
    changed = ~Q(discrepancy__expected=F("expected"), discrepancy__actual=F("actual")) | ~Q(
        discrepancy__cleared_at__isnull=True, discrepancy__resolved_at__isnull=True
    )
    is_open = proposal.decision == Decision.OPEN
    return {
        "shown": [_shown(item, proposal) for item in first],
        "seen": digest_of(proposal.way, present),
        "is_changed": is_open and items.filter(changed).exists(),
        "is_cut": proposal.count > MOST_SHOWN,
        "most_shown": MOST_SHOWN,
    }


def _entry(found: Discrepancy, difference: Decimal) -> str:
    """The accounts that the approval moves, USD, a debit positive."""
    moved = resolving.corrected_account(found.kind)
    of_lane = f" of {found.lane}" if moved == LedgerAccount.CLEARING else ""
    against = resolving.corrected_against(difference).label.lower()
    return f"{moved.label.lower()}{of_lane} {difference:+,.2f}, {against} {-difference:+,.2f}"


def _shown(item: ProposalItem, proposal: Proposal) -> Shown:
    found = item.discrepancy
    difference = item.actual - item.expected
    posted = "nothing"
    if proposal.way == Way.CORRECTED:
        posted = _entry(found, difference)
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
