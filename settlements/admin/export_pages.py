"""What a list page shows, as rows to export: the page's own filter and search choose them.

The page and the file ask one query set, built by Django's change list from the address alone, so that
their counts and sums are one (R48); nothing of a page's filters is written down a second time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, IGNORED_PARAMS, PAGE_VAR, SEARCH_VAR
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.contrib.messages.api import MessageFailure
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, QueryDict
from django.urls import reverse

from checkout import wiring
from checkout.desk import as_uuid, printed
from checkout.lists import Total
from checkout.models import Attempt, BulkRequeue, Case, Charge, Hold, LedgerEntry
from checkout.page import Printed
from settlements.exports.csv_file import Progress
from settlements.exports.export_list import chosen_by_page
from settlements.exports.journal import month_of
from settlements.exports.lists import named
from settlements.exports.making import (
    Figures,
    NotMakeable,
    closed_month,
    evidence_writer,
    journal_writer,
    list_writer,
)
from settlements.exports.snapshot import ids_of, sum_of
from settlements.models import (
    LONGEST_QUERY,
    BankEntry,
    BankStatement,
    BooksClose,
    Capture,
    DeskAction,
    Discrepancy,
    ExportForm,
    ExportRun,
    ExportWhat,
    Payout,
    Proposal,
    Settlement,
    StatementImport,
    StatementLine,
)

LISTED: Final[Mapping[ExportWhat, type[Model]]] = {
    ExportWhat.CHARGES: Charge,
    ExportWhat.ATTEMPTS: Attempt,
    ExportWhat.CAPTURES: Capture,
    ExportWhat.LEDGER_ENTRIES: LedgerEntry,
    ExportWhat.STATEMENTS: StatementImport,
    ExportWhat.STATEMENT_LINES: StatementLine,
    ExportWhat.PAYOUTS: Payout,
    ExportWhat.BANK_STATEMENTS: BankStatement,
    ExportWhat.BANK_ENTRIES: BankEntry,
    ExportWhat.SETTLEMENTS: Settlement,
    ExportWhat.DISCREPANCIES: Discrepancy,
    ExportWhat.PROPOSALS: Proposal,
    ExportWhat.DESK_ACTIONS: DeskAction,
    ExportWhat.CASES: Case,
    ExportWhat.HOLDS: Hold,
    ExportWhat.BULK_REQUEUES: BulkRequeue,
    ExportWhat.CLOSES: BooksClose,
    ExportWhat.AUDIT_TRAIL: LogEntry,
}
LIST_FORMS: Final = (ExportForm.CSV, ExportForm.CSV_EXCEL, ExportForm.XLSX)
# What an address says beside the filter: which page of the list, in which order.
NO_FILTERS: Final = {*IGNORED_PARAMS, PAGE_VAR, ERROR_FLAG} - {SEARCH_VAR}

Person = User | AbstractBaseUser | AnonymousUser


@dataclass(frozen=True)
class Offer:
    """What would be exported: its query in one spelling and in words, its forms, where it is shown."""

    what: ExportWhat
    query: str
    words: str
    forms: tuple[ExportForm, ...]
    printed: Printed
    back: str
    rows: QuerySet[Any] | None = None
    total: Total = field(default_factory=Total)


def may_see(what: ExportWhat, by: Person) -> bool:
    """Whether this person sees on a page what such a file holds; else he gets no file of it either."""
    # A month's journal lies behind its close, the evidence behind the proof of its charge.
    behind: Mapping[ExportWhat, type[Model]] = {
        **LISTED,
        ExportWhat.JOURNAL: BooksClose,
        ExportWhat.EVIDENCE: Charge,
    }
    app, name = behind[what]._meta.app_label, behind[what]._meta.model_name
    rights = [f"{app}.{action}_{name}" for action in ("view", "change")]
    return any(by.has_perm(right) for right in rights)  # type: ignore[union-attr]


def offer(*, what: ExportWhat, query: str, by: Person) -> Offer:
    """What this address asks for, to this person. Raises NotMakeable, with what to do."""
    match what:
        case ExportWhat.JOURNAL:
            return _journal(query, by)
        case ExportWhat.EVIDENCE:
            return _evidence(query, by)
        case _:
            return _list(what, query, by)


def writer_of(run: ExportRun, progress: Progress) -> Callable[[Path], Figures]:
    """How an export's file is written, as the person who asked for it may see it now. Raises NotMakeable."""
    asker = User.objects.filter(username=run.asked_by, is_active=True).first()
    if asker is None:
        raise NotMakeable(f"{run.asked_by} has no active account any more; somebody else may ask.")
    found = offer(what=ExportWhat(run.what), query=run.query, by=asker)
    if found.what == ExportWhat.EVIDENCE:
        charge_id = QueryDict(found.query)["charge"]
        return evidence_writer(charge_id=charge_id, by=run.asked_by, clock=wiring.clock())
    if found.rows is None:
        today = wiring.clock().business_now().date()
        month = month_of(QueryDict(run.query)["month"])
        return journal_writer(month=month, today=today, progress=progress)
    wanted = chosen_by_page(
        named(found.what),
        ids=ids_of(found.rows),
        in_words=found.words,
        # The list's own column is read with its rows; what a filter makes of it the page alone knows.
        page_sum=sum_of(found.rows, found.total.each) if found.total.called else "",
    )
    return list_writer(wanted=wanted, form=ExportForm(run.form), progress=progress)


def _list(what: ExportWhat, query: str, by: Person) -> Offer:
    model = LISTED[what]
    desk = admin.site.get_model_admin(model)
    if not may_see(what, by):
        raise NotMakeable(f"You may not see {desk.opts.verbose_name_plural}.")
    request = HttpRequest()
    request.method, request.user = "GET", by  # type: ignore[assignment]
    request.GET = _one_spelling(query)  # type: ignore[assignment]
    try:
        found = desk.get_changelist_instance(request)
    except (IncorrectLookupParameters, SuspiciousOperation, ValidationError, MessageFailure):
        raise NotMakeable(
            f"The list of {desk.opts.verbose_name_plural} knows no such filter: {query}. Choose it on "
            "the list, then export from there."
        ) from None
    asked = request.GET.urlencode()
    says = printed(found)
    address = reverse(f"admin:{desk.opts.app_label}_{desk.opts.model_name}_changelist")
    return Offer(
        what=what,
        query=asked,
        words="everything" if says.chosen == "none" else says.chosen[:500],
        forms=LIST_FORMS,
        printed=says,
        back=f"{address}?{asked}" if asked else address,
        rows=found.queryset,
        total=found.paginator.total,
    )


def _one_spelling(query: str) -> QueryDict:
    """The filter of an address, sorted by name, without what is no filter; equal filters, equal text."""
    if len(query) > LONGEST_QUERY:
        raise NotMakeable("This filter is too long to be kept; choose fewer values.")
    given = QueryDict(query)
    spelled = QueryDict(mutable=True)
    for name in sorted(given):
        if name not in NO_FILTERS and given.getlist(name) != [""]:
            spelled.setlist(name, given.getlist(name))
    return spelled


def _journal(query: str, by: Person) -> Offer:
    if not may_see(ExportWhat.JOURNAL, by):
        raise NotMakeable("You may not see closes of the books.")
    try:
        month = month_of(QueryDict(query).get("month", ""))
    except ValueError:
        raise NotMakeable("Say of which month: ?month=2026-10.") from None
    close = closed_month(month)
    return Offer(
        what=ExportWhat.JOURNAL,
        query=f"month={month:%Y-%m}",
        words=f"month {month:%Y-%m}, closed by {close.decided_by}",
        forms=(ExportForm.ZIP,),
        printed=Printed(
            at=wiring.clock().real_now(),
            chosen=f"month {month:%Y-%m}",
            count=close.line_count,
            noun="ledger lines",
            usd=close.debit,
        ),
        back=reverse("admin:settlements_booksclose_change", args=[close.pk]),
    )


def _evidence(query: str, by: Person) -> Offer:
    if not may_see(ExportWhat.EVIDENCE, by):
        raise NotMakeable("You may not see charges.")
    wanted = as_uuid(QueryDict(query).get("charge", ""))
    charges = Charge.objects.select_related("creator")
    charge = charges.filter(pk=wanted).first() if wanted else None
    if charge is None:
        raise NotMakeable("Say of which charge, by its id; its proof page has the link.")
    words = f"charge {charge.pk} of {charge.creator.external_id}"
    return Offer(
        what=ExportWhat.EVIDENCE,
        query=f"charge={charge.pk}",
        words=words[:500],
        forms=(ExportForm.ZIP,),
        printed=Printed(
            at=wiring.clock().real_now(), chosen=words, count=1, noun="charge", usd=charge.amount
        ),
        back=reverse("charge_proof", args=[charge.pk]),
    )
