"""What every desk of the admin shares: read-only lists, counts within bounds, decisions with a reason.

It stands below both apps' `admin.py`, which may not import each other's. One base class instead of
fifteen copies of the same six methods: Django's admin is configured by inheritance.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar, Final, Protocol, TypeVar, cast
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout import wiring
from checkout.clock import Moment
from checkout.commit import committed
from checkout.lists import BoundedList, BoundedPaginator, Total
from checkout.page import Printed, in_snapshot
from checkout.tallies import Tally

M = TypeVar("M", bound=Model)
T = TypeVar("T")

MOST_DECIDED: Final = 200
# Characters of a reason, wherever one is asked for.
SHORTEST_REASON, LONGEST_REASON = 5, 300
SAY_WHY: Final = f"Say why, in {SHORTEST_REASON} to {LONGEST_REASON} characters."


class ReasonForm(forms.Form):
    """Why somebody decides; it is stored with the decision."""

    reason = forms.CharField(
        min_length=SHORTEST_REASON,
        max_length=LONGEST_REASON,
        strip=True,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 80, "autofocus": True}),
        help_text=f"{SHORTEST_REASON} to {LONGEST_REASON} characters. It is kept with the decision and your name.",
    )


@dataclass(frozen=True)
class Question:
    """What a person is asked before an action: its name, what will happen, and the button's word."""

    action: str
    title: str
    consequence: str
    verb: str


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list and a page to read. What changes money goes through actions, which call use cases."""

    paginator = BoundedPaginator
    total_of: str | Total = ""
    # The export that holds what the list shows; the button is the templates', the export settlements'.
    export_name = ""
    show_full_result_count = False
    # "Show counts" beside the filters would count the table once for each choice.
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 200
    # What a click may sort by; BoundedList sees to it that this is never too much.
    sortable_by: ClassVar[tuple[str, ...]] = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BoundedList

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> BoundedPaginator:
        paginator = cast(
            BoundedPaginator, super().get_paginator(request, queryset, *args, **kwargs)
        )
        # Django pages a row's history with it, too: log entries, which have no amount.
        if queryset.model is self.model:
            paginator.total = self._total(request)
        return paginator

    def _total(self, request: HttpRequest) -> Total:
        """The list's own column, or what a filter of the address says that a figure is made of."""
        for each in self.list_filter:
            total_in = getattr(each, "total_in", None)
            if total_in and (found := total_in(request)):
                return cast(Total, found)
        return self.total_of if isinstance(self.total_of, Total) else Total(self.total_of)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list in one snapshot; an action, which writes, is no page."""
        if request.method == "POST":
            return super().changelist_view(request, extra_context)
        return in_snapshot(lambda: self._list(request, extra_context))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The row in one snapshot, with what the desk shows beside it."""
        if request.method == "POST":
            return super().change_view(request, object_id, form_url, extra_context)
        return in_snapshot(lambda: self._row(request, object_id, form_url, extra_context or {}))

    def _row(
        self, request: HttpRequest, object_id: str, form_url: str, extra: dict[str, Any]
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        # Without the right to look, or without a row, Django's own view says so.
        if row is not None and self.has_view_permission(request, row):
            extra = {"printed": Printed(at=wiring.clock().real_now()), **extra}
            extra |= self.beside(request, row)
        return super().change_view(request, object_id, form_url, extra)

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What the page of one row shows besides its columns."""
        return {}

    def _list(self, request: HttpRequest, extra_context: dict[str, Any] | None) -> HttpResponse:
        title = str(self.opts.verbose_name_plural)
        context = {
            "title": f"{title[0].upper()}{title[1:]}",
            "export_name": self.export_name,
            **(extra_context or {}),
        }
        response = super().changelist_view(request, context)
        if isinstance(response, TemplateResponse) and response.context_data:
            found = response.context_data["cl"]
            told = printed(found)
            is_longer = found.paginator.is_more and not found.query
            if is_longer and (kept := self.kept(request)) is not None:
                noun = str(self.opts.verbose_name_plural)
                told = replace(told, count=kept.count, usd=kept.usd, is_more=False, noun=noun)
            response.context_data["printed"] = told
        return response

    def kept(self, request: HttpRequest) -> Tally | None:
        """Count and USD of a list that goes on beyond what is counted, if sums of it are kept."""
        return None

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return (queryset.filter(self.named(search_term)) if search_term else queryset), False

    def named(self, term: str) -> Q:
        """What somebody searched for, as one equality on one index; a list that searches says it."""
        return Q(pk=term)

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Who may use the actions: Django's own change permission of the model, given to staff."""
        return self._has_right(request, "change")

    def has_approve_permission(self, request: HttpRequest) -> bool:
        """Who may be the second person."""
        return self._has_right(request, "approve")

    def _has_right(self, request: HttpRequest, action: str) -> bool:
        right = f"{self.opts.app_label}.{action}_{self.opts.model_name}"
        return bool(request.user.has_perm(right))


class AskingAdmin(ReadOnlyAdmin):
    """A list to which a person adds through one question, which has a page and a reason.

    A desk names its question and its form, and says in `answer` what a valid form does.
    """

    question: ClassVar[Question]
    form_class: ClassVar[type[ReasonForm]]

    def answer(self, request: HttpRequest, form: ReasonForm) -> None:
        """Do what was answered and tell it, or say beside a field of the form what refuses it."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        action = self.question.action
        name = f"{self.opts.app_label}_{self.opts.model_name}_{action}"
        view = self.admin_site.admin_view(self.ask_view)
        return [path(f"{action}/", view, name=name), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        question = self.question if self.has_decide_permission(request) else None
        return super().changelist_view(request, {"question": question, **(extra_context or {})})

    def ask_view(self, request: HttpRequest) -> HttpResponse:
        """Ask until the answer is taken, then go back to the list."""
        if not self.has_decide_permission(request):
            raise PermissionDenied
        form = self.form_class(request.POST or None)
        if form.is_valid():
            self.answer(request, form)
            if not form.errors:
                listed = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
                return HttpResponseRedirect(reverse(listed))
        context = self.admin_site.each_context(request) | {
            "title": self.question.title,
            "question": self.question,
            "form": form,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/decide.html", context)


def printed(found: Any) -> Printed:
    """What a list (Django's ChangeList) prints of itself."""
    paginator = found.paginator
    chosen = [f"search “{found.query}”"] if found.query else []
    for spec in found.filter_specs:
        # The first is "All".
        others = list(spec.choices(found))[1:]
        chosen += [f"{spec.title}: {each['display']}" for each in others if each["selected"]]
    one, many = found.opts.verbose_name, found.opts.verbose_name_plural
    return Printed(
        at=wiring.clock().real_now(),
        chosen=", ".join(chosen) or "none",
        count=paginator.count,
        is_more=paginator.is_more,
        estimate=paginator.estimate if paginator.is_more else None,
        noun=str(one if paginator.count == 1 else many),
        usd=paginator.usd,
        usd_of=paginator.total.called,
    )


class ReadOnlyInline(admin.TabularInline):  # type: ignore[type-arg]
    """Rows that belong to the page's row, to read."""

    template = "admin/rows_below.html"
    extra = 0
    can_delete = False
    show_change_link = True

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> tuple[str, ...]:
        """All of them; an id, which is not editable, is refused as a field otherwise."""
        return tuple(str(field) for field in self.fields or ())

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def in_commit(work: Callable[[Moment], T], *, deadline: float | None = None) -> T:
    """Call a use case once in a transaction of its own, tried again while the database comes back.

    `deadline` is in seconds; without it, a request's.
    """
    clock, within = wiring.clock(), deadline or wiring.ages().request_deadline
    return committed(lambda: work(clock.now()), deadline=within, clock=clock, once=True)


def as_uuid(term: str) -> UUID | None:
    """The UUID somebody searched for, or None when it is something else."""
    try:
        return UUID(term.strip())
    except ValueError:
        return None


def by_id(term: str, *places: tuple[type[Model], str], otherwise: str = "pk") -> Q:
    """Find out of which table an id is, by primary keys, and look it up in that one column.

    An OR over several columns would let the planner walk the whole table in the list's order.
    """
    wanted = as_uuid(term)
    if wanted is None:
        return Q(pk__in=[])
    for model, column in places:
        if model._default_manager.filter(pk=wanted).exists():
            return Q(**{column: wanted})
    return Q(**{otherwise: wanted})


def money(amount: Decimal | None) -> str:
    """An amount in USD as every page shows it: 1,234.50, or a dash when there is none."""
    return "—" if amount is None else f"{amount:,.2f}"


def badge(value: str, label: str = "") -> SafeString:
    """A state as a word with a colour; the colour is in the style sheet, the word alone suffices."""
    return format_html(
        '<span class="badge badge-{}">{}</span>', value, label or value.replace("_", " ")
    )


def short(id: object) -> SafeString:
    """The first eight characters of an id, the whole one when pointed at."""
    return format_html('<code title="{}">{}</code>', id, f"{str(id)[:8]}…")


def instant(moment: datetime | None) -> str:
    """A time in UTC to the second, or a dash."""
    return "—" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def reason_below(*, auto_id: str = "id_%s") -> ReasonForm:
    """The question at the end of a page that is to be read first: it opens at its top."""
    form = ReasonForm(auto_id=auto_id)
    del form.fields["reason"].widget.attrs["autofocus"]
    return form


def decide(
    desk: ReadOnlyAdmin,
    request: HttpRequest,
    chosen: QuerySet[M],
    question: Question,
    *,
    act: Callable[[M, Mapping[str, Any], str, Moment], object],
    refusals: tuple[type[Exception], ...],
    amount: Callable[[M], Decimal | None] | None = None,
    form_class: type[ReasonForm] = ReasonForm,
    shown: Callable[[M], str] | None = None,
) -> HttpResponse | None:
    """Ask for a reason on a page of its own, then act on each row and leave a trace.

    1. Refuse more rows than a person can look at.
    2. Without a valid reason: show what is chosen, how many, how much USD, and ask.
    3. Call `act(row, answers, by, now)` for each, in one commit with its LogEntry. A refusal of the use
       case is shown, not raised. Sent twice, the second finds nothing to do and is refused row by row.

    `shown` says what is decided about a row; what the page showed comes back as the answer `seen`.
    """
    rows = _few(desk, request, chosen)
    if rows is None:
        return None
    form = form_class(request.POST if "decided" in request.POST else None)
    if not form.is_valid():
        return _ask(desk, request, rows, question, form, amount, shown)
    done, by = 0, request.user.get_username()

    def act_and_log(row: M, now: Moment) -> None:
        act(row, form.cleaned_data | {"seen": request.POST.get(f"seen-{row.pk}", "")}, by, now)
        desk.log_change(request, row, f"{question.title}: {form.cleaned_data['reason']}")

    for row in rows:
        try:
            in_commit(partial(act_and_log, row))
            done += 1
        except refusals as refusal:
            desk.message_user(request, f"{row}: {refusal}", level=messages.WARNING)
    desk.message_user(
        request,
        f"{question.title}: done for {done} of {len(rows)}.",
        level=messages.SUCCESS if done == len(rows) else messages.WARNING,
    )
    return None


def decide_together(
    desk: ReadOnlyAdmin,
    request: HttpRequest,
    chosen: QuerySet[M],
    question: Question,
    *,
    act: Callable[[Sequence[M], Mapping[str, Any], str], str],
    refusals: tuple[type[Exception], ...],
    amount: Callable[[M], Decimal | None] | None = None,
    form_class: type[ReasonForm] = ReasonForm,
) -> HttpResponse | None:
    """As `decide`, but one call about all of them: all or nothing, and the use case keeps the trail.

    `act(rows, answers, by)` returns what to tell; its refusal is shown above the form.
    """
    rows = _few(desk, request, chosen)
    if rows is None:
        return None
    form = form_class(request.POST if "decided" in request.POST else None)
    if not form.is_valid():
        return _ask(desk, request, rows, question, form, amount)
    try:
        said = act(rows, form.cleaned_data, request.user.get_username())
    except refusals as refusal:
        form.add_error(None, f"Nothing was done: {refusal}.")
        return _ask(desk, request, rows, question, form, amount)
    desk.message_user(request, said, level=messages.SUCCESS)
    return None


def _few(desk: ReadOnlyAdmin, request: HttpRequest, chosen: QuerySet[M]) -> list[M] | None:
    """The rows, or None after telling that they are more than a person can look at."""
    rows = list(chosen[: MOST_DECIDED + 1])
    if len(rows) <= MOST_DECIDED:
        return rows
    desk.message_user(request, f"Choose at most {MOST_DECIDED} rows at once.", messages.ERROR)
    return None


class Decided(Protocol):
    """A row about which a second person has decided."""

    @property
    def decision(self) -> str: ...
    @property
    def decided_because(self) -> str: ...


D = TypeVar("D", bound=Decided)


def decide_proposed(
    desk: ReadOnlyAdmin,
    request: HttpRequest,
    row: Model,
    *,
    act: Callable[[str, str], Callable[[Moment], D]] | None,
    refusals: type[Exception],
    commit: Callable[[Callable[[Moment], D]], D] = in_commit,
) -> HttpResponse:
    """Decide what another person proposed, with the reason that was posted; then back to its page.

    `act` makes the use case of that reason and of the digest that the page showed; None where the
    decision is none that the page offers. A refusal of the use case is shown, not raised.
    """
    address = f"admin:{desk.opts.app_label}_{desk.opts.model_name}_change"
    back, form = HttpResponseRedirect(reverse(address, args=[row.pk])), ReasonForm(request.POST)
    if act is None or not form.is_valid():
        desk.message_user(request, SAY_WHY, messages.ERROR)
        return back
    use_case = act(form.cleaned_data["reason"], request.POST.get("seen", ""))

    def decide_and_log(now: Moment) -> D:
        decided = use_case(now)
        desk.log_change(request, row, f"{decided.decision}: {decided.decided_because}")
        return decided

    try:
        decided = commit(decide_and_log)
    except refusals as refusal:
        desk.message_user(request, f"Nothing was decided: {refusal}.", messages.WARNING)
        return back
    desk.message_user(request, f"{row} is {decided.decision}.".capitalize())
    return back


def require_right(decision: str, *, may_approve: bool, may_withdraw: bool) -> None:
    """Raise PermissionDenied unless this person may approve, refuse or withdraw."""
    if decision in {"approve", "refuse"}:
        allowed = may_approve
    else:
        allowed = decision == "withdraw" and may_withdraw
    if not allowed:
        raise PermissionDenied


def _ask(
    desk: ReadOnlyAdmin,
    request: HttpRequest,
    rows: Sequence[M],
    question: Question,
    form: ReasonForm,
    amount: Callable[[M], Decimal | None] | None,
    shown: Callable[[M], str] | None = None,
) -> HttpResponse:
    amounts = [(row, amount(row) if amount else None) for row in rows]
    context: dict[str, Any] = desk.admin_site.each_context(request) | {
        "title": question.title,
        "question": question,
        "rows": [(row, money(value), shown(row) if shown else "") for row, value in amounts],
        "count": len(rows),
        "has_amounts": amount is not None,
        "total": money(sum((value or Decimal() for _, value in amounts), Decimal())),
        "form": form,
        "opts": desk.opts,
        "checkbox_name": ACTION_CHECKBOX_NAME,
    }
    return TemplateResponse(request, "admin/decide.html", context)
