"""Dead letters and what became of their charges; many exhausted charges requeued at once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout import readings, requeues, wiring
from checkout.clock import Moment
from checkout.desk import (
    ReadOnlyAdmin,
    ReasonForm,
    badge,
    decide_proposed,
    in_commit,
    money,
    reason_below,
    require_right,
    short,
)
from checkout.filters import filter_by_person, fixed_filter
from checkout.gateways import DeclineClass
from checkout.models import (
    REQUEUE_WAITS,
    Awaits,
    BulkRequeue,
    BulkRequeueItem,
    Case,
    RequeueDecision,
    RequeueOutcome,
)
from checkout.page import Printed, in_snapshot
from checkout.requeues import Choice, DryRun, Limit, by_another

MOST_SHOWN: Final = 100

StateFilter = fixed_filter(
    "state",
    "state",
    {
        "waits": ("waits for another person", REQUEUE_WAITS),
        "unfinished": ("not finished", Q(finished_at__isnull=True)),
        "finished": ("finished", Q(finished_at__isnull=False)),
    },
)

WaitingFilter = filter_by_person(
    "waiting", "waits for", {"me": ("me", lambda me: REQUEUE_WAITS & by_another(me))}
)


class ChoiceForm(forms.Form):
    """Which exhausted charges; an empty field means any."""

    lane = forms.ChoiceField(
        required=False, choices=[("", "any"), *((lane, lane) for lane in sorted(settings.LANES))]
    )
    decline_class = forms.ChoiceField(
        required=False,
        label="Class of the last decline",
        choices=[("", "any"), *((c.value, c.value.replace("_", " ")) for c in DeclineClass)],
    )
    awaits = forms.ChoiceField(
        required=False,
        label="What it awaits",
        choices=[("", "any"), *((value, label) for value, label in Awaits.choices if value)],
    )
    since = forms.DateTimeField(
        required=False, label="Exhausted from (UTC)", help_text="2026-11-20 or 2026-11-20 06:00"
    )
    until = forms.DateTimeField(
        required=False, label="Exhausted before (UTC)", help_text="2026-11-21 or 2026-11-21 06:00"
    )

    def choice(self) -> Choice:
        """What was filled in."""
        answers: dict[str, Any] = dict(self.cleaned_data)
        for name in ("since", "until"):
            if answers[name]:
                answers[name] = answers[name].replace(tzinfo=UTC)
        return Choice(**answers)


@dataclass(frozen=True)
class Letter:
    """A dead or unreadable letter's case, and its charge as it stands now."""

    case: Case
    usd: str
    shown_case: SafeString
    short_charge: SafeString | str
    shown_charge: SafeString | str


def newest_letters() -> list[Letter]:
    """Open cases first, then the newest closed ones; each kind along its own index."""
    found: list[Case] = []
    for is_closed in (False, True):
        for kind in readings.DEAD:
            rows = Case.objects.filter(kind=kind, closed_at__isnull=not is_closed)
            rows = rows.select_related("charge__creator").order_by("-opened_at", "-id")
            found += rows[: MOST_SHOWN + 1]
    found.sort(key=lambda case: (case.closed_at is not None, -case.opened_at.timestamp()))
    return [_letter(case) for case in found[:MOST_SHOWN]]


def _letter(case: Case) -> Letter:
    charge = case.charge
    return Letter(
        case=case,
        usd=money(case.amount),
        shown_case=badge("closed") if case.closed_at else badge("open"),
        short_charge=short(charge.pk) if charge else "—",
        shown_charge=badge(charge.state) if charge else "no charge of ours",
    )


@admin.register(BulkRequeue)
class BulkRequeueAdmin(ReadOnlyAdmin):
    list_display = (
        "proposed_at",
        "proposed_by",
        "which",
        "count",
        "shown_usd",
        "reason",
        "shown_state",
        "decided_by",
    )
    list_display_links = ("proposed_at",)
    list_filter = (StateFilter, WaitingFilter)
    ordering = ("-proposed_at", "-id")
    export_name = "bulk-requeues"
    total_of = "usd"

    @admin.display(description="which")
    def which(self, run: BulkRequeue) -> str:
        return str(choice_of(run))

    @admin.display(description="USD")
    def shown_usd(self, run: BulkRequeue) -> SafeString:
        return format_html('<span class="money">{}</span>', money(run.usd))

    @admin.display(description="state")
    def shown_state(self, run: BulkRequeue) -> SafeString:
        if run.is_waiting:
            return badge("open", "waits")
        if run.decision in {RequeueDecision.REFUSED, RequeueDecision.WITHDRAWN}:
            return badge(
                "refused" if run.decision == RequeueDecision.REFUSED else "closed", run.decision
            )
        return badge("closed", "done") if run.finished_at else badge("pending", "under way")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("dead-letters/", view(self.letters_view), name="checkout_dead_letters"),
            path(
                "<int:requeue_id>/decide/",
                view(self.decide_view),
                name="checkout_bulkrequeue_decide",
            ),
        ]
        return [*own, *super().get_urls()]

    # --- Dead letters, and the form ----------------------------------------------------------------

    def letters_view(self, request: HttpRequest) -> HttpResponse:
        """The cases of dead letters; the dry run of a bulk requeue; and, posted, the requeue."""
        if not self.has_view_permission(request) or not request.user.has_perm("checkout.view_case"):
            raise PermissionDenied
        if request.method == "POST":
            return self._requeue(request)
        return in_snapshot(lambda: self._letters(request, ReasonForm()))

    def _letters(self, request: HttpRequest, reason: ReasonForm) -> HttpResponse:
        asked = request.POST if request.method == "POST" else request.GET
        form = ChoiceForm(asked if "look" in asked else None)
        plan = _look(form) if form.is_bound and form.is_valid() else None
        pile = readings.dead_letters(readings.open_cases())
        limit = Limit(**settings.REQUEUE_LIMIT)
        left = requeues.left_of(limit, by=request.user.get_username(), now=wiring.clock().now())
        context: dict[str, Any] = self.admin_site.each_context(request) | {
            "title": "Dead letters",
            "opts": self.opts,
            "printed": Printed(
                at=wiring.clock().real_now(),
                chosen="open; closed ones stand below them",
                count=pile.count,
                noun="letter" if pile.count == 1 else "letters",
                usd=pile.usd,
            ),
            "letters": newest_letters(),
            "most": MOST_SHOWN,
            "form": form,
            "plan": plan,
            "choice": form.choice() if plan else None,
            "usd": money(plan.usd) if plan else "",
            "left": [(e.because, e.count, money(e.usd)) for e in plan.reasons] if plan else [],
            "is_above": plan.is_above(left) if plan else False,
            "limit": limit,
            "limit_usd": money(limit.usd),
            "limit_left": left,
            "limit_left_usd": money(left.usd),
            "reason": reason,
            "may_requeue": self.has_decide_permission(request),
        }
        return TemplateResponse(request, "admin/dead_letters.html", context)

    def _requeue(self, request: HttpRequest) -> HttpResponse:
        if not self.has_decide_permission(request):
            raise PermissionDenied
        form, reason = ChoiceForm(request.POST), ReasonForm(request.POST)
        if not form.is_valid() or not reason.is_valid():
            return self._letters(request, reason)

        def propose(now: Moment) -> BulkRequeue:
            run = requeues.propose(
                choice=form.choice(),
                seen=request.POST.get("seen", ""),
                by=request.user.get_username(),
                reason=reason.cleaned_data["reason"],
                limit=Limit(**settings.REQUEUE_LIMIT),
                now=now,
                ages=wiring.ages(),
            )
            self.log_addition(request, run, f"{run.count} charges, {run.usd} USD: {run.reason}")
            return run

        try:
            run = in_commit(propose)
        except requeues.NotChosen as refusal:
            reason.add_error(None, f"Nothing was done: {refusal}.")
            return self._letters(request, reason)
        told = (
            "it waits for another person" if run.is_waiting else "the timetable carries it out now"
        )
        self.message_user(request, f"Written down; {told}.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:checkout_bulkrequeue_change", args=[run.pk]))

    # --- One of them, and the second person --------------------------------------------------------

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Exactly what would be approved, or what became of it, as it stands at this moment."""
        items: QuerySet[BulkRequeueItem] = row.items.select_related("charge__creator")
        by_outcome = {
            each["outcome"]: (each["n"], money(each["usd"]))
            for each in row.items.values("outcome").annotate(n=Count("pk"), usd=Sum("amount"))
        }
        now = wiring.clock().now()
        present = (
            requeues.present_digest(row, now=now, ages=wiring.ages()) if row.is_waiting else ""
        )
        mine = row.proposed_by.removeprefix(requeues.BY_COMMAND) == request.user.get_username()
        return {
            "which": choice_of(row),
            "usd": money(row.usd),
            "limit_usd": money(row.limit_usd),
            "state": self.shown_state(row),
            "outcomes": [
                (outcome.label, *by_outcome[outcome.value])
                for outcome in RequeueOutcome
                if outcome.value in by_outcome
            ],
            "items": [(each, money(each.amount)) for each in items.order_by("pk")[:MOST_SHOWN]],
            "most": MOST_SHOWN,
            "is_waiting": row.is_waiting,
            "is_changed": row.is_waiting and present != row.sha256,
            "is_mine": mine,
            "may_approve": row.is_waiting and not mine and self.has_approve_permission(request),
            "may_withdraw": row.is_waiting and self.has_decide_permission(request),
            "form": reason_below(),
        }

    def decide_view(self, request: HttpRequest, requeue_id: int) -> HttpResponse:
        """Approve, refuse or withdraw with a reason; then back to its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        decision, by = request.POST.get("decision", ""), request.user.get_username()
        require_right(
            decision,
            may_approve=self.has_approve_permission(request),
            may_withdraw=self.has_decide_permission(request),
        )
        return decide_proposed(
            self,
            request,
            get_object_or_404(BulkRequeue, pk=requeue_id),
            act=lambda reason, seen: _act(
                decision, requeue_id=requeue_id, seen=seen, by=by, reason=reason
            ),
            refusals=requeues.NotDecidable,
        )


def choice_of(run: BulkRequeue) -> Choice:
    """What was chosen, as it was chosen."""
    return Choice(**{name: getattr(run, name) for name in vars(Choice())})


def _look(form: ChoiceForm) -> DryRun | None:
    """The dry run, or None after saying in the form why there is none."""
    try:
        return requeues.dry_run(choice=form.choice(), now=wiring.clock().now(), ages=wiring.ages())
    except requeues.NotChosen as refusal:
        form.add_error(None, f"{refusal}.".capitalize())
        return None


def _act(
    decision: str, *, requeue_id: int, seen: str, by: str, reason: str
) -> Callable[[Moment], BulkRequeue]:
    match decision:
        case "approve":
            return lambda now: requeues.approve(
                requeue_id=requeue_id,
                seen=seen,
                by=by,
                reason=reason,
                now=now,
                ages=wiring.ages(),
            )
        case "refuse":
            return lambda now: requeues.refuse(requeue_id=requeue_id, by=by, reason=reason, now=now)
        case _:
            return lambda now: requeues.withdraw(
                requeue_id=requeue_id, by=by, reason=reason, now=now
            )
