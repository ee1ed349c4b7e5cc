"""Closing the books: what would be closed, the page on which another person locks it, the certificate."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
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
)
from checkout.filters import fixed_filter
from checkout.page import Printed, in_both_zones, in_snapshot
from settlements import books
from settlements.admin.captures import captures_link
from settlements.admin.proposals import DECISION_BADGES, WaitingFilter
from settlements.days import Stretch, closed_through
from settlements.models import BooksClose, Decision, ProofState, Span

# The prefix of the form's fields: a reason for each open thing, by its name.
REASON: Final = "reason-"
# Seconds: a month of a million lines is hashed in one transaction.
PATIENCE: Final = 60

DecisionFilter = fixed_filter(
    "decision",
    "decision",
    {
        "open": ("waits for another person", Q(decision="")),
        "approved": ("closed", Q(decision="approved")),
        "back": ("sent back", Q(decision__in=["refused", "withdrawn"])),
    },
)
SpanFilter = fixed_filter(
    "span", "day or month", {"day": ("day", Q(span="day")), "month": ("month", Q(span="month"))}
)


@dataclass(frozen=True)
class Counted:
    """A line of the certificate: what, how many, how much USD, and the list as it stands today."""

    words: str
    count: str
    usd: str
    link: str


@admin.register(BooksClose)
class BooksCloseAdmin(ReadOnlyAdmin):
    list_display = (
        "day_or_month",
        "debit",
        "credit",
        "carried_count",
        "usd",
        "shown_state",
        "proposed_by",
        "decided_by",
    )
    list_display_links = ("day_or_month",)
    list_filter = (DecisionFilter, WaitingFilter, SpanFilter)
    ordering = ("-first_day", "-id")
    export_name = "closes"

    @admin.display(description="day or month")
    def day_or_month(self, close: BooksClose) -> str:
        return close.name

    @admin.display(description="carried over, USD")
    def usd(self, close: BooksClose) -> str:
        return money(close.carried_usd)

    @admin.display(description="state")
    def shown_state(self, close: BooksClose) -> SafeString:
        decision = Decision(close.decision)
        words = {Decision.OPEN: "waits", Decision.APPROVED: "closed"}
        return badge(DECISION_BADGES[decision], words.get(decision, str(decision)))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("next/", view(self.next_view), name="settlements_booksclose_next"),
            path("month/", view(self.month_view), name="settlements_booksclose_month"),
            path(
                "<int:close_id>/decide/",
                view(self.decide_view),
                name="settlements_booksclose_decide",
            ),
            *super().get_urls(),
        ]

    # --- What would be closed ----------------------------------------------------------------------

    def next_view(self, request: HttpRequest) -> HttpResponse:
        """The next day with everything that is open; posted, it is proposed with the reasons given."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            if not self.has_decide_permission(request):
                raise PermissionDenied
            return self._propose_day(request)
        return in_snapshot(lambda: self._next(request, {}))

    def _next(self, request: HttpRequest, reasons: dict[str, str]) -> HttpResponse:
        now, day = wiring.clock().now(), books.next_day()
        context: dict[str, Any] = self.admin_site.each_context(request) | {
            "title": f"Close {day}" if day else "Close a day",
            "opts": self.opts,
            "day": day,
            "may_propose": self.has_decide_permission(request),
            "month": _month_to_close(),
            "form": reason_below(),
            # Two questions on one page: each label names its own field.
            "month_form": reason_below(auto_id="month_%s"),
        }
        if day is None or now.business.date() <= day:
            context["printed"] = Printed(at=now.real)
            return TemplateResponse(request, "admin/settlements/booksclose/next.html", context)
        draft = books.draft_of_day(day=day, reasons=reasons, now=now)
        waiting = BooksClose.objects.filter(span=Span.DAY, first_day=day, decision=Decision.OPEN)
        context |= {
            "draft": draft,
            "carried": [(each, leads_to(each.item.name)) for each in draft.carried],
            "counted": list(_counted(draft.figures, day=day)),
            "postings": _postings_of(str(day)),
            "charges": list(_charges(draft.charges, day=day)),
            "sums": f"{draft.debit:,.2f}",
            "carried_usd": f"{draft.carried_usd:,.2f}",
            "waiting": waiting.first(),
            "printed": Printed(
                at=now.real,
                chosen=f"the UTC day {day} and what is open from before it",
                count=draft.line_count,
                noun="ledger lines",
                usd=draft.debit,
            ),
        }
        return TemplateResponse(request, "admin/settlements/booksclose/next.html", context)

    def _propose_day(self, request: HttpRequest) -> HttpResponse:
        given = {
            name.removeprefix(REASON): str(value).strip()
            for name, value in request.POST.items()
            if name.startswith(REASON)
        }
        reasons = {name: reason for name, reason in given.items() if reason}
        day, by = books.next_day(), request.user.get_username()
        if day is None or request.POST.get("day") != day.isoformat():
            told = f"The next day to close is {day}; look at it again."
            self.message_user(request, told, messages.WARNING)
            return HttpResponseRedirect(reverse("admin:settlements_booksclose_next"))
        form = ReasonForm(request.POST)
        if not form.is_valid():
            self.message_user(request, f"Nothing was proposed. {SAY_WHY}", messages.ERROR)
            return in_snapshot(lambda: self._next(request, reasons))
        try:
            close = self._propose(
                request,
                form,
                lambda now: books.propose_close(day=day, reasons=reasons, by=by, now=now),
            )
        except books.StillOpen as refusal:
            names = ", ".join(item.name for item in refusal.items[:5])
            told = f"Nothing was proposed: {len(refusal.items)} open without a reason: {names}."
            self.message_user(request, told, messages.ERROR)
            return in_snapshot(lambda: self._next(request, reasons))
        except books.NotClosable as refusal:
            self.message_user(request, f"Nothing was proposed: {refusal}.", messages.WARNING)
            return in_snapshot(lambda: self._next(request, {}))
        return self._proposed(request, close)

    def month_view(self, request: HttpRequest) -> HttpResponse:
        """Propose the month that the page offered, with a reason."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_decide_permission(request):
            raise PermissionDenied
        month, by, form = _month_to_close(), request.user.get_username(), ReasonForm(request.POST)
        back = HttpResponseRedirect(reverse("admin:settlements_booksclose_next"))
        if month is None:
            self.message_user(request, "No month waits to be closed.", messages.WARNING)
            return back
        if not form.is_valid():
            self.message_user(request, f"Nothing was proposed. {SAY_WHY}", messages.ERROR)
            return back
        try:
            close = self._propose(
                request, form, lambda now: books.propose_month(month=month, by=by, now=now)
            )
        except books.NotClosable as refusal:
            self.message_user(request, f"Nothing was proposed: {refusal}.", messages.WARNING)
            return back
        return self._proposed(request, close)

    def _propose(
        self, request: HttpRequest, form: ReasonForm, use_case: Callable[[Moment], BooksClose]
    ) -> BooksClose:
        """Propose, and say why in the trail, in one commit."""

        def propose(now: Moment) -> BooksClose:
            close = use_case(now)
            self.log_change(request, close, f"Proposed to close it: {form.cleaned_data['reason']}")
            return close

        return _in_commit(propose)

    def _proposed(self, request: HttpRequest, close: BooksClose) -> HttpResponse:
        self.message_user(request, f"Proposed: {close}. Another person locks it.")
        return HttpResponseRedirect(reverse("admin:settlements_booksclose_change", args=[close.pk]))

    # --- The certificate, and the decision ----------------------------------------------------------

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """The certificate, as it was proposed; while it waits, what changed since."""
        now = wiring.clock().now()
        is_open = row.decision == Decision.OPEN
        is_mine = books.is_own(close=row, by=request.user.get_username())
        # A day is counted again for who could lock it; a month by the approval alone, which takes long.
        may_approve = is_open and not is_mine and self.has_approve_permission(request)
        return {
            "title": f"Close of {row.name}",
            "printed": Printed(
                at=row.proposed_at,
                chosen=f"{row.span} {row.name}, UTC",
                count=row.line_count,
                noun="ledger lines",
                usd=row.debit,
            ),
            "state": self.shown_state(row),
            "counted": list(
                _counted(row.figures, day=row.first_day)
                if row.span == Span.DAY
                else _counted_at_the_end(row.figures)
            ),
            "charges": list(_charges(row.charges, day=row.first_day)),
            "postings": _postings_of(row.name),
            "carried": [(each, leads_to(each.name)) for each in row.carried.order_by("name")],
            "carried_usd": money(row.carried_usd),
            "sums": (money(row.debit), money(row.credit)),
            "proposed_at": in_both_zones(row.proposed_at),
            "decided_at": in_both_zones(row.decided_at) if row.decided_at else "",
            "changed": books.what_changed(close=row, now=now)
            if may_approve and row.span == Span.DAY
            else "",
            "is_closed": row.decision == Decision.APPROVED,
            "is_mine": is_mine,
            "may_approve": may_approve,
            "may_send_back": may_approve
            or (is_open and is_mine and self.has_decide_permission(request)),
            "is_open": is_open,
            "form": reason_below(),
        }

    def decide_view(self, request: HttpRequest, close_id: int) -> HttpResponse:
        """Lock it or send it back, with a reason; then back to the certificate."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        close = get_object_or_404(BooksClose, pk=close_id)
        by, decision = request.user.get_username(), request.POST.get("decision", "")
        own = books.is_own(close=close, by=by) and self.has_decide_permission(request)
        if not (self.has_approve_permission(request) or (decision == "send_back" and own)):
            raise PermissionDenied

        def act(reason: str, seen: str) -> Callable[[Moment], BooksClose]:
            return _act(decision, close_id, seen=seen, by=by, reason=reason)

        return decide_proposed(
            self,
            request,
            close,
            act=act if decision in {"approve", "send_back"} else None,
            refusals=books.NotDecidable,
            commit=_in_commit,
        )


def _month_to_close() -> date | None:
    """The latest month whose days are all closed, unless it is closed or proposed already."""
    last = closed_through()
    if last is None:
        return None
    month = ((last + timedelta(days=1)).replace(day=1) - timedelta(days=1)).replace(day=1)
    there = BooksClose.objects.filter(
        span=Span.MONTH, first_day=month, decision__in=[Decision.OPEN, Decision.APPROVED]
    )
    first = BooksClose.objects.filter(
        span=Span.DAY, decision=Decision.APPROVED, first_day__gte=month
    )
    return month if first.exists() and not there.exists() else None


def _act(
    decision: str, close_id: int, *, seen: str, by: str, reason: str
) -> Callable[[Moment], BooksClose]:
    if decision == "approve":
        return lambda now: books.approve_close(
            close_id=close_id, seen=seen, by=by, reason=reason, now=now
        )
    return lambda now: books.send_back(close_id=close_id, by=by, reason=reason, now=now)


def _in_commit(work: Callable[[Moment], BooksClose]) -> BooksClose:
    return in_commit(work, deadline=PATIENCE)


def _counted(figures: dict[str, Any], *, day: date) -> Iterable[Counted]:
    """What a day's close counts; each list is of today's state, as the page says."""
    lines = {
        ProofState.PROVED: "captures proved by an accepted file",
        ProofState.AWAITING: "captures await their file",
        ProofState.DISCREPANT: "captures with a discrepancy",
    }
    for proof, words in lines.items():
        link = captures_link(proof=proof, stretch=Stretch(day, day))
        yield from _figure(figures.get(proof), words, link)
    yield from _figure(figures.get("in_doubt"), "attempts in doubt (suspense)", reverse("in_doubt"))


def _counted_at_the_end(figures: dict[str, Any]) -> Iterable[Counted]:
    """What a month's close says of its end: each thing is named by the certificate of its last day."""
    closes = BooksClose.objects.filter(
        span=Span.DAY, decision=Decision.APPROVED, first_day__in=list(figures.get("days", {}))
    )
    last = closes.order_by("-first_day").first()
    link = reverse("admin:settlements_booksclose_change", args=[last.pk]) if last else ""
    words = "attempts in doubt (suspense) when its last day was closed"
    yield from _figure(figures.get("in_doubt"), words, link)
    yield from _figure(figures.get("open_at_the_end"), "carried over from its last day", link)


def _figure(tally: dict[str, Any] | None, words: str, link: str) -> Iterable[Counted]:
    """A count of nothing leads nowhere; a close of an older version may not hold the figure at all."""
    if tally:
        usd = money(Decimal(tally["usd"]))
        yield Counted(words, f"{tally['count']:,}", usd, link if tally["count"] else "")


def _postings_of(days: str) -> str:
    """The ledger's entries of a day or a month; both sums are of the same."""
    return f"{reverse('admin:checkout_ledgerentry_changelist')}?posted={days}"


def leads_to(name: str) -> str:
    """The page of what was carried over, by its name (settlements/models/books.py)."""
    match name.split(":"):
        case ["file", "bank", account, day]:
            query = urlencode({"account": account, "on": day})
            return f"{reverse('admin:settlements_bankexpectation_changelist')}?{query}"
        case ["file", lane, day]:
            query = urlencode({"lane": lane, "on": day})
            return f"{reverse('admin:settlements_statementexpectation_changelist')}?{query}"
        case ["discrepancy", id]:
            return reverse("admin:settlements_discrepancy_change", args=[id])
        case [("attempt" | "case") as model, id]:
            return reverse(f"admin:checkout_{model}_change", args=[id])
        case _:
            return ""


def _charges(charges: dict[str, Any], *, day: date) -> Iterable[Counted]:
    address = reverse("admin:checkout_charge_changelist")
    for state, tally in sorted(charges.items()):
        usd = money(Decimal(tally["usd"]))
        link = f"{address}?{urlencode({'billed': day, 'state__exact': state})}"
        yield Counted(state.replace("_", " "), f"{tally['count']:,}", usd, link)
