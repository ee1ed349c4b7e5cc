"""The discrepancy desk: what does not agree, who looks into it, what is proposed, and the trail."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
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
from checkout.filters import fixed_filter
from checkout.lists import MOST_COUNTED
from checkout.models import Charge
from checkout.targets import creators_named
from settlements import resolving
from settlements.admin.matching import offers
from settlements.admin.proof import proof_link
from settlements.clues import clues_of
from settlements.explaining import explain
from settlements.formats.lines import amount
from settlements.models import STANDING, DeskAction, Discrepancy, Kind, Way, ways_of
from settlements.roles import ANALYST

MOST_GROUPS: Final = 8
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


class WhoseFilter(admin.SimpleListFilter):
    title = "who looks into it"
    parameter_name = "whose"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("me", "I do"), ("nobody", "nobody yet")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "me":
            return queryset.filter(assigned_to=request.user.get_username())
        return queryset.filter(assigned_to="") if self.value() == "nobody" else queryset


@dataclass(frozen=True)
class Cause:
    """What makes discrepancies one group: kind, code, lane, and the difference to the cent (USD)."""

    kind: str
    code: str
    lane: str
    difference: Decimal

    @property
    def parameter(self) -> str:
        return f"{self.kind}~{self.code}~{self.lane}~{self.difference}"

    @property
    def in_words(self) -> str:
        lane = f" · {self.lane}" if self.lane else ""
        code = self.code.replace("_", " ")
        return f"{self.kind} · {code}{lane} · {self.difference:+,.2f}"


@dataclass(frozen=True)
class Group:
    """Standing discrepancies of one cause: how many, how much USD in all, since when (real clock)."""

    cause: Cause
    count: int
    net: Decimal
    oldest: datetime
    link: str

    @property
    def net_shown(self) -> str:
        return f"{self.net:+,.2f}"


class CauseFilter(admin.SimpleListFilter):
    title = "cause"
    parameter_name = "cause"
    # Chosen from the table of groups above the list, so it takes no room beside it.
    template = "admin/no_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(group.cause.parameter, group.cause.in_words) for group in groups_of_one_cause()]

    def has_output(self) -> bool:
        """Also for a cause that no more stands: else Django would leave the filter out."""
        return True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        parts = (self.value() or "").split("~")
        if len(parts) != 4:
            return queryset
        kind, code, lane, difference = parts
        usd = amount(difference)
        if usd is None or "\0" in kind + code + lane:
            return queryset.none()
        return queryset.filter(kind=kind, code=code, lane=lane, difference=usd)


def groups_of_one_cause() -> list[Group]:
    """The largest groups among the newest standing discrepancies, as many as a list counts (R47)."""
    standing = Discrepancy.objects.filter(STANDING).order_by("-opened_at", "-id")
    columns = ("kind", "code", "lane", "difference", "opened_at")
    rows = list(standing.values_list(*columns)[: MOST_COUNTED + 1])
    counted = Counter(Cause(*row[:4]) for row in rows)
    # Newest first, so the last one met of each cause is its oldest.
    oldest = {Cause(*row[:4]): row[4] for row in rows}
    return [
        Group(
            cause=cause,
            count=count,
            net=cause.difference * count,
            oldest=oldest[cause],
            link=f"?{urlencode({'standing': 'yes', 'cause': cause.parameter})}",
        )
        for cause, count in counted.most_common(MOST_GROUPS)
    ]


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
PROPOSE: Final = Question(
    action="propose",
    title="Propose a resolution",
    consequence="One proposal for all that are listed below. Another person approves exactly these "
    "amounts, or refuses; until then they stand. A cent between owed and captured is corrected in "
    "the books; what is not about money, was rewritten behind the service, or is between us and the "
    "processor's file may be accepted as it is. Everything else is cleared by evidence alone.",
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
    list_filter = (StandingFilter, "kind", AboutFilter, AgeFilter, WhoseFilter, CauseFilter)
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
            "state": self.shown_state(row),
            "proof": proof_link(row.charge_id),
            "cause": Cause(row.kind, row.code, row.lane, row.difference),
        }

    def _list(self, request: HttpRequest, extra_context: dict[str, Any] | None) -> HttpResponse:
        context = {"groups": groups_of_one_cause(), "chosen_cause": request.GET.get("cause", "")}
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
            page = reverse("admin:settlements_proposal_change", args=[made.pk])
            return format_html(
                'Proposed, {} of net {} USD: <a href="{}">{}</a> waits for another person.',
                made.count,
                f"{made.net:+,.2f}",
                page,
                made,
            )

        return self._decide(request, chosen, PROPOSE, act, form_class=ProposeForm)

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
