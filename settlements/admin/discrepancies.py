"""The discrepancy desk: what does not agree, who looks into it, what is proposed, and the trail."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout import wiring
from checkout.desk import (
    Question,
    ReadOnlyAdmin,
    ReasonForm,
    as_uuid,
    badge,
    by_id,
    decide_together,
    in_commit,
)
from checkout.filters import filter_by_link, filter_by_person, fixed_filter
from checkout.lists import MOST_COUNTED, Total
from checkout.models import Charge
from checkout.page import in_snapshot, month_named
from checkout.targets import creators_named
from settlements import resolving
from settlements.admin.matching import offers
from settlements.admin.proof import proof_link
from settlements.causes import Cause, cause_named, free_of, groups_of_one_cause
from settlements.clues import clues_of
from settlements.explaining import explain
from settlements.models import STANDING, DeskAction, Discrepancy, Kind, Proposal, Way, ways_of
from settlements.month import corrected_lines_in, corrected_part
from settlements.roles import ANALYST

# Seconds: ten thousand are locked and written down in one transaction.
PATIENCE: Final = 60
# What the two sides of each comparison are, for the page that subtracts one from the other.
SIDES: Final[Mapping[str, tuple[str, str]]] = {
    Kind.BILLING: ("By terms and calendar", "Charged"),
    Kind.CAPTURED: ("Owed", "Captured by the processor"),
    Kind.PERIODS: ("Periods reached", "Charges"),
    Kind.STATEMENT: ("By our records", "By the statement"),
    Kind.LEDGER: ("Captured", "By the books"),
    Kind.EVENTS: ("By the outbox", "By the topic"),
    Kind.PAYOUT: ("By its lines, or the payout", "By its total, or the bank"),
}


def proposal_named(text: str) -> int | None:
    """The number of a proposal that a link names."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


StandingFilter = fixed_filter(
    "standing",
    "state",
    {
        "yes": ("standing", STANDING),
        "waiting": ("standing, waits for approval", STANDING & Q(proposal__isnull=False)),
        "hand": ("resolved by two people", Q(resolved_at__isnull=False)),
        "no": ("cleared by evidence", Q(cleared_at__isnull=False)),
    },
)
AgeFilter = fixed_filter(
    "age",
    "age",
    {
        "today": ("up to a day", Q(opened_at__gte=Now() - timedelta(days=1))),
        "days": ("older than a day", Q(opened_at__lt=Now() - timedelta(days=1))),
        "week": ("older than a week", Q(opened_at__lt=Now() - timedelta(days=7))),
        "month": ("older than 30 days", Q(opened_at__lt=Now() - timedelta(days=30))),
    },
)
AboutFilter = fixed_filter(
    "about",
    "about what",
    {
        "charge": ("a charge", Q(charge__isnull=False)),
        "else": ("a file, a line, a payout or the topic", Q(charge__isnull=True)),
    },
)


ProposalFilter = filter_by_link(
    "in_proposal", "proposal", lambda number: Q(proposal=number), read=proposal_named
)
CorrectedFilter = filter_by_link(
    "corrected",
    "corrected, captures of",
    lambda month: Q(pk__in=corrected_lines_in(first=month[0], last=month[1]).values("pk")),
    read=month_named,
    total=lambda month: Total(corrected_part(first=month[0], last=month[1]), "of these days"),
)
WhoseFilter = filter_by_person(
    "whose",
    "who looks into it",
    {
        "me": ("I do", lambda me: Q(assigned_to=me)),
        "nobody": ("nobody yet", lambda _: Q(assigned_to="")),
    },
)


class CauseFilter(admin.SimpleListFilter):
    title = "cause"
    parameter_name = "cause"
    # Chosen from the table of groups above the list, so it takes no room beside it.
    template = "admin/no_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        largest = groups_of_one_cause(among=MOST_COUNTED).largest
        return [(group.cause.parameter, group.cause.in_words) for group in largest]

    def has_output(self) -> bool:
        """Also for a cause that no more stands: else Django would leave the filter out."""
        return True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if (self.value() or "").count("~") != 3:
            return queryset
        cause = cause_named(self.value() or "")
        return queryset.filter(cause.condition) if cause else queryset.none()


def link_to(cause: Cause) -> str:
    """What stands of this cause, as the list shows it."""
    return f"?{urlencode({'standing': 'yes', 'cause': cause.parameter})}"


# --- The questions -------------------------------------------------------------------------------


class AssignForm(ReasonForm):
    """Who looks into it."""

    to = forms.ChoiceField(label="Who", required=False)
    field_order = ["to", "reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        analysts = User.objects.filter(is_active=True, groups__name=ANALYST).order_by("username")
        names = list(analysts.values_list("username", flat=True))
        self.fields["to"].choices = [  # type: ignore[attr-defined]
            ("", "nobody"),
            *((name, name) for name in names),
        ]


class ProposeForm(ReasonForm):
    """In which way it is resolved."""

    way = forms.ChoiceField(
        label="Way", choices=[(w.value, w.label) for w in (Way.ACCEPTED, Way.CORRECTED)]
    )
    field_order = ["way", "reason"]


ASSIGN: Final = Question(
    action="assign",
    title="Assign discrepancies",
    consequence="They appear under that person's name; nothing else changes.",
    verb="Assign",
)
NOTE: Final = Question(
    action="note",
    title="Write a note",
    consequence="It is added to the trail of each discrepancy, with your name; nothing else changes.",
    verb="Add the note",
)
WHAT_HAPPENS: Final = (
    "Another person approves exactly these amounts, or refuses; until then they stand. A cent between "
    "owed and captured is corrected in the books, and so may be what the processor's file says otherwise "
    "than we captured. That, what is not about money, and what was rewritten behind the service may be "
    "accepted as it is: nothing is posted. Everything else is cleared by evidence alone."
)
PROPOSE: Final = Question(
    action="propose",
    title="Propose a resolution",
    consequence=f"One proposal for all that are listed below. {WHAT_HAPPENS}",
    verb="Propose it",
)
TOGETHER: Final = Question(
    action="together",
    title="Propose a resolution",
    consequence="One proposal for all of this cause that stand and wait in no other. "
    + WHAT_HAPPENS,
    verb="Propose it",
)
REOPEN: Final = Question(
    action="reopen",
    title="Open again",
    consequence="What two people resolved stands again, and what was posted for it is posted back.",
    verb="Open again",
)


@admin.register(Discrepancy)
class DiscrepancyAdmin(ReadOnlyAdmin):
    list_display = (
        "opened_at",
        "usd",
        "what",
        "explanation",
        "who",
        "shown_state",
        "charge_proof",
    )
    list_display_links = ("opened_at", "what")
    list_filter = (
        StandingFilter,
        "kind",
        AboutFilter,
        AgeFilter,
        WhoseFilter,
        CauseFilter,
        ProposalFilter,
        CorrectedFilter,
    )
    list_select_related = ("proposal",)
    ordering = ("-opened_at", "-id")
    search_fields = ("id",)
    search_help_text = "The id of a charge or a creator, or a creator's external id"
    total_of = "difference"
    export_name = "discrepancies"
    actions = ("assign", "note", "propose", "reopen")

    def named(self, term: str) -> Q:
        if as_uuid(term) is None:
            return Q(creator_id__in=creators_named(term))
        return by_id(term, (Charge, "charge_id"), otherwise="creator_id")

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What the page of one discrepancy shows besides its own columns."""
        expected, actual = SIDES[row.kind]
        return {
            "sides": {"expected": expected, "actual": actual},
            "difference": f"{row.difference:+,.2f}",
            "explanations": explain(clues := clues_of(row)),
            "opposite": [other for other in clues.opposite if not other.of_another_creator],
            "others": _others(row),
            "ways": [way.label for way in ways_of(row)],
            "offers": offers(row, now=wiring.clock().now()),
            "trail": row.trail.order_by("at", "id"),
            "may_decide": self.has_decide_permission(request),
            "may_open_again": row.resolved_at or resolving.in_the_books([row.pk]).exists(),
            "state": self.shown_state(row),
            "proof": proof_link(row.charge_id),
            "cause": Cause(row.kind, row.code, row.lane, row.difference),
        }

    def _list(self, request: HttpRequest, extra_context: dict[str, Any] | None) -> HttpResponse:
        groups = groups_of_one_cause(among=MOST_COUNTED)
        cause = cause_named(request.GET.get("cause", ""))
        context = {
            "groups": [(each, link_to(each.cause), f"{each.net:+,.2f}") for each in groups.largest],
            "among": f"{MOST_COUNTED:,}" if groups.is_bounded else "",
            "chosen_cause": request.GET.get("cause", ""),
            "free": free_of(cause) if cause else None,
            "may_decide": self.has_decide_permission(request),
        }
        return super()._list(request, {**context, **(extra_context or {})})

    @admin.action(description="Assign…", permissions=["decide"])
    def assign(self, request: HttpRequest, chosen: QuerySet[Discrepancy]) -> HttpResponse | None:
        def act(ids: Sequence[int], answers: Mapping[str, Any], by: str) -> str:
            to, reason = answers["to"], answers["reason"]
            count = in_commit(
                lambda now: resolving.assign(
                    discrepancy_ids=ids, to=to, by=by, reason=reason, now=now
                )
            )
            return f"{count} assigned to {to or 'nobody'}."

        return self._decide(request, chosen, ASSIGN, act, form_class=AssignForm)

    @admin.action(description="Write a note…", permissions=["decide"])
    def note(self, request: HttpRequest, chosen: QuerySet[Discrepancy]) -> HttpResponse | None:
        def act(ids: Sequence[int], answers: Mapping[str, Any], by: str) -> str:
            text = answers["reason"]
            count = in_commit(
                lambda now: resolving.note(discrepancy_ids=ids, by=by, text=text, now=now)
            )
            return f"Noted on {count}."

        return self._decide(request, chosen, NOTE, act)

    @admin.action(description="Propose a resolution…", permissions=["decide"])
    def propose(self, request: HttpRequest, chosen: QuerySet[Discrepancy]) -> HttpResponse | None:
        def act(ids: Sequence[int], answers: Mapping[str, Any], by: str) -> SafeString:
            way, reason = Way(answers["way"]), answers["reason"]
            made = in_commit(
                lambda now: resolving.propose(
                    discrepancy_ids=ids, way=way, by=by, reason=reason, now=now
                )
            )
            return _proposed(made)

        return self._decide(request, chosen, PROPOSE, act, form_class=ProposeForm)

    def get_urls(self) -> list[URLPattern]:
        together = path(
            "together/",
            self.admin_site.admin_view(self.together_view),
            name="settlements_discrepancy_together",
        )
        return [together, *super().get_urls()]

    def together_view(self, request: HttpRequest) -> HttpResponse:
        """Propose all that stands of one cause, exactly as the page showed it, however many."""
        if not self.has_decide_permission(request):
            raise PermissionDenied
        cause = cause_named(request.GET.get("cause", ""))
        if cause is None:
            self.message_user(request, "Choose a cause first.", messages.WARNING)
            return HttpResponseRedirect(reverse("admin:settlements_discrepancy_changelist"))
        form = ProposeForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            said = form.cleaned_data
            seen, by = request.POST.get("seen", ""), request.user.get_username()
            try:
                made = in_commit(
                    lambda now: resolving.propose_together(
                        cause=cause,
                        seen=seen,
                        way=Way(said["way"]),
                        by=by,
                        reason=said["reason"],
                        now=now,
                    ),
                    deadline=PATIENCE,
                )
            except resolving.NotProposable as refusal:
                form.add_error(None, f"Nothing was done: {refusal}.")
            else:
                self.message_user(request, _proposed(made), messages.SUCCESS)
                return HttpResponseRedirect(
                    reverse("admin:settlements_proposal_change", args=[made.pk])
                )
        return in_snapshot(lambda: self._together(request, cause, form))

    def _together(self, request: HttpRequest, cause: Cause, form: ProposeForm) -> HttpResponse:
        free = free_of(cause)
        context: dict[str, Any] = self.admin_site.each_context(request) | {
            "title": f"{PROPOSE.title}: {cause.in_words} each",
            "question": TOGETHER,
            "form": form,
            "opts": self.opts,
            "count": free.count,
            "has_amounts": True,
            "total": f"{free.net:+,.2f}",
            "is_more": free.is_more,
            "seen_all": free.sha256,
        }
        return TemplateResponse(request, "admin/decide.html", context)

    @admin.action(description="Open again what was resolved by hand…", permissions=["decide"])
    def reopen(self, request: HttpRequest, chosen: QuerySet[Discrepancy]) -> HttpResponse | None:
        def act(ids: Sequence[int], answers: Mapping[str, Any], by: str) -> str:
            reason = answers["reason"]
            count = in_commit(
                lambda now: resolving.reopen(discrepancy_ids=ids, by=by, reason=reason, now=now)
            )
            return f"{count} stand again."

        return self._decide(request, chosen, REOPEN, act)

    def _decide(
        self,
        request: HttpRequest,
        chosen: QuerySet[Discrepancy],
        question: Question,
        act: Any,
        form_class: type[ReasonForm] = ReasonForm,
    ) -> HttpResponse | None:
        return decide_together(
            self,
            request,
            chosen,
            question,
            act=lambda rows, answers, by: act([row.pk for row in rows], answers, by),
            refusals=(resolving.NotProposable, resolving.NotReopenable),
            amount=lambda row: row.difference,
            form_class=form_class,
        )

    @admin.display(description="USD")
    def usd(self, found: Discrepancy) -> SafeString:
        return format_html('<span class="money">{}</span>', f"{found.difference:+,.2f}")

    @admin.display(description="who")
    def who(self, found: Discrepancy) -> str:
        return found.assigned_to or "—"

    @admin.display(description="what")
    def what(self, found: Discrepancy) -> str:
        return f"{found.kind}: {found.code.replace('_', ' ')}"

    @admin.display(description="proof")
    def charge_proof(self, found: Discrepancy) -> SafeString | str:
        return proof_link(found.charge_id)

    @admin.display(description="state")
    def shown_state(self, found: Discrepancy) -> SafeString:
        if found.cleared_at:
            return badge("proved", "cleared")
        if found.resolved_at:
            return badge("proved", "resolved")
        return badge("open", "proposed") if found.proposal_id else badge("discrepant", "standing")


def _proposed(made: Proposal) -> SafeString:
    return format_html(
        'Proposed, {} of net {} USD: <a href="{}">{}</a> waits for another person.',
        f"{made.count:,}",
        f"{made.net:+,.2f}",
        reverse("admin:settlements_proposal_change", args=[made.pk]),
        made,
    )


def _others(found: Discrepancy) -> list[Discrepancy]:
    """Others about the same charge."""
    if found.charge_id is None:
        return []
    about = Discrepancy.objects.filter(charge_id=found.charge_id).exclude(pk=found.pk)
    return list(about.order_by("-opened_at", "-id")[:5])


@admin.register(DeskAction)
class DeskActionAdmin(ReadOnlyAdmin):
    list_display = ("at", "by", "kind", "discrepancy", "proposal", "reason", "assigned_to")
    list_display_links = ("at",)
    list_filter = ("kind",)
    list_select_related = ("discrepancy", "proposal")
    ordering = ("-at", "-id")
    export_name = "desk-actions"
