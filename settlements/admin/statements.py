"""Processors' files: how they got in, the way in by upload, and what is owed.

An upload is read before anything is stored; what is shown is imported by the same file's SHA-256.
"""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import wraps
from typing import Any, Final
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Q, Value, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.views.decorators.csrf import csrf_exempt

from checkout import wiring
from checkout.clock import Moment
from checkout.desk import (
    SAY_WHY,
    AskingAdmin,
    Question,
    ReadOnlyAdmin,
    ReadOnlyInline,
    ReasonForm,
    badge,
    in_commit,
    money,
    reason_below,
)
from checkout.filters import filter_by_link
from checkout.lists import Total
from settlements.admin.booked import in_the_books
from settlements.arrivals import BANK, Account, AnyStatement
from settlements.banking import BankPreview
from settlements.expectations import ZoneStays, agree_terms
from settlements.formats.lines import SHOWN, Refused, Told, amount
from settlements.formats.source import Bounds
from settlements.models import (
    Booking,
    Covers,
    FileState,
    ImportState,
    StatementExpectation,
    StatementFile,
    StatementImport,
    StatementTerms,
    StatementUpload,
)
from settlements.month import balances_at
from settlements.uploads import (
    NotUploaded,
    confirm_upload,
    keep_upload,
    preview_upload,
    under_review,
)

# Of a multipart body beyond the file in it.
FORM_BYTES: Final = 1 << 16


def accounts() -> dict[str, Account]:
    """Every lane's processor account."""
    return {lane: Account(facts["processor"], lane) for lane, facts in settings.LANES.items()}


def bounds() -> Bounds:
    return Bounds(**settings.STATEMENT_BOUNDS)


class UsdField(forms.CharField):
    """An amount with at most two places, exact, or nothing."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return None
        usd = amount(text)
        if usd is None:
            raise forms.ValidationError(f"{text!r} is not an amount such as 19.99")
        return usd


class UploadForm(forms.Form):
    """Whose statement it is, the file, and what Stripe's report does not say of itself."""

    whose = forms.ChoiceField(label="Whose statement")
    file = forms.FileField(
        help_text="The processor's CSV, Stripe's itemized balance report, or camt.053; .gz and .zip too."
    )
    first_day = forms.DateField(
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Only for a report of Stripe's whose name was changed: it names no days itself.",
    )
    last_day = forms.DateField(
        required=False, widget=forms.DateInput(attrs={"type": "date"}), help_text="Included."
    )
    opening = UsdField(
        required=False,
        help_text="USD; only for a lane's first report of Stripe's, else it is the former closing.",
    )
    closing = UsdField(
        required=False,
        help_text="USD; for every report of Stripe's: the former closing and the net balance change"
        " from activity of Stripe's summary.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["whose"].choices = [  # type: ignore[attr-defined]
            *((lane, f"{each.processor}, {lane}") for lane, each in accounts().items()),
            (BANK, "our bank"),
        ]

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if (said.get("first_day") is None) != (said.get("last_day") is None):
            self.add_error("last_day", "first_day and last_day go together")
        if said.get("opening") is not None and said.get("closing") is None:
            self.add_error("closing", "opening goes with closing")
        first, last = said.get("first_day"), said.get("last_day")
        if first and last and last < first:
            self.add_error("last_day", "it is before the first day")
        return said


def _limited(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Refuse a body that is too large from its length, before anything of it is read.

    CSRF is checked inside, by admin_view: the middleware would read the whole body to find the token.
    """

    @csrf_exempt
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if int(length) > settings.STATEMENT_UPLOAD_BYTES + FORM_BYTES:
            return HttpResponse(
                f"The file is larger than {settings.STATEMENT_UPLOAD_BYTES} bytes. Pack it (.gz), or"
                " import it with manage.py import_statement.",
                status=413,
                content_type="text/plain; charset=utf-8",
            )
        return view(request, *args, **kwargs)

    return checked


def _balances(day: date) -> Total:
    """What each file says that its processor held; a lane has one of them, so they are few."""
    cases = [When(pk=pk, then=Value(usd)) for pk, usd in balances_at(day).items()]
    return Total(Case(*cases, default=Decimal("0.00")), "held")


HeldFilter = filter_by_link(
    "held",
    "says what the processor held at the end of",
    lambda day: Q(pk__in=list(balances_at(day))),
    total=_balances,
)


class DayInline(ReadOnlyInline):
    model = StatementExpectation
    ordering = ("lane", "day")
    fields = ("lane", "day", "due_at", "state")
    show_change_link = False


@admin.register(StatementImport)
class StatementImportAdmin(ReadOnlyAdmin):
    list_display = (
        "imported_at",
        "file_name",
        "lane",
        "first_day",
        "last_day",
        "closing",
        "movement",
        "shown_state",
        "line_count",
        "format",
        "reason",
    )
    list_display_links = ("file_name",)
    list_filter = (HeldFilter,)
    ordering = ("-imported_at", "-id")
    export_name = "statements"
    total_of = "movement"
    readonly_fields = ("booked",)
    inlines = (DayInline,)

    @admin.display(description="in the books, beside captures")
    def booked(self, file: StatementImport) -> SafeString | str:
        return in_the_books(Booking.objects.filter(statement=file))

    @admin.display(description="state")
    def shown_state(self, file: StatementImport) -> SafeString:
        return badge("proved" if file.state == ImportState.ACCEPTED else "discrepant", file.state)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path(
                "upload/",
                _limited(view(self.upload_view)),
                name="settlements_statementimport_upload",
            ),
            path(
                "upload/<slug:sha256>/",
                view(self.review_view),
                name="settlements_statementimport_review",
            ),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"may_upload": self._has_right(request, "add"), **(extra_context or {})}
        return super().changelist_view(request, context)

    def upload_view(self, request: HttpRequest) -> HttpResponse:
        """Take a file for its review; nothing of it is imported yet."""
        self._must_upload(request)
        form = UploadForm(request.POST or None, request.FILES or None)
        if form.is_valid():
            upload = self._keep(request, form.cleaned_data)
            return HttpResponseRedirect(
                reverse("admin:settlements_statementimport_review", args=[upload.sha256])
            )
        return self._page(request, "upload", {"title": "Upload a statement", "form": form})

    def review_view(self, request: HttpRequest, sha256: str) -> HttpResponse:
        """Show what would be imported; a POST, with a reason, imports exactly what the page showed."""
        self._must_upload(request)
        by = request.user.get_username()
        try:
            upload = under_review(by=by, sha256=sha256)
        except NotUploaded as refused:
            self.message_user(request, str(refused), messages.WARNING)
            return self._back()
        if request.method == "POST":
            # The same bytes may have been sent again since, for another lane or with other days.
            form, told = ReasonForm(request.POST), SAY_WHY
            if request.POST.get("upload") != str(upload.pk):
                told = "what that page showed is no longer under review; look at it again"
            elif form.is_valid():
                return self._confirm(request, upload, because=form.cleaned_data["reason"])
            self.message_user(request, told, messages.WARNING)
        context: dict[str, Any] = {
            "title": "Review a statement",
            "upload": upload,
            "form": reason_below(),
        }
        try:
            found = preview_upload(
                upload=upload, accounts=accounts(), now=wiring.clock().now(), bounds=bounds()
            )
        except Refused as refused:
            context |= {"faults": refused.bad[:SHOWN], "fault_count": refused.count}
            return self._page(request, "review", context)
        return self._page(request, "review", context | _shown(found))

    def _keep(self, request: HttpRequest, said: dict[str, Any]) -> StatementUpload:
        file = said["file"]
        told = Told(said["first_day"], said["last_day"], said["opening"], said["closing"])
        # Once: a second try of the unit would find nothing left to read.
        content = file.read()
        return in_commit(
            lambda now: keep_upload(
                content=content,
                file_name=file.name,
                lane="" if said["whose"] == BANK else said["whose"],
                told=told,
                by=request.user.get_username(),
                now=now,
            )
        )

    def _confirm(
        self, request: HttpRequest, upload: StatementUpload, *, because: str
    ) -> HttpResponse:
        clock = wiring.clock()

        def keep_trail(statement: AnyStatement, correction: str) -> None:
            desk = self.admin_site.get_model_admin(type(statement))
            if correction:
                desk.log_change(request, statement, f"{correction}: {because}")
            else:
                desk.log_addition(request, statement, f"Uploaded {statement.file_name}: {because}")

        try:
            taken = confirm_upload(
                upload=upload,
                accounts=accounts(),
                now=clock.now(),
                ages=wiring.ages(),
                bounds=bounds(),
                keep_trail=keep_trail,
            )
        except Refused as refused:
            self.message_user(request, f"Refused: {refused}", messages.ERROR)
            return self._back()
        for statement in taken.statements:
            self._tell(request, statement, again=taken.state == FileState.KNOWN)
        return self._back(bank=not upload.lane)

    def _tell(self, request: HttpRequest, statement: AnyStatement, *, again: bool) -> None:
        if statement.state == ImportState.QUARANTINED:
            text, level = f"{statement}: set aside: {statement.reason}", messages.WARNING
        elif again:
            text, level = f"{statement}: was imported before, nothing added", messages.INFO
        else:
            text, level = f"{statement}: accepted, {statement.movement} USD", messages.SUCCESS
        self.message_user(request, text, level)

    def _must_upload(self, request: HttpRequest) -> None:
        if not self._has_right(request, "add"):
            raise PermissionDenied

    def _back(self, *, bank: bool = False) -> HttpResponseRedirect:
        name = "bankstatement" if bank else "statementimport"
        return HttpResponseRedirect(reverse(f"admin:settlements_{name}_changelist"))

    def _page(self, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
        context = self.admin_site.each_context(request) | {"opts": self.opts} | context
        return TemplateResponse(request, f"admin/settlements/statementimport/{name}.html", context)


def _shown(found: Any) -> dict[str, Any]:
    """A preview as the page shows it: a row for each type of line, or each statement of a bank."""
    if isinstance(found, BankPreview):
        rows = [
            (f"{each.account}, {each.first_day} to {each.last_day}", each)
            for each in found.statements
        ]
        return {
            "bank": [(name, each, money(each.movement)) for name, each in rows],
            "known": bool(found.known),
            "count": f"{sum(each.entry_count for each in found.statements):,}",
            "usd": money(sum((each.movement for each in found.statements), Decimal("0.00"))),
            "noun": "booked",
            "aside": [each.reason for each in found.statements if each.reason],
        }
    statement = found.statement
    sums = [
        (name, each.count, money(each.gross), money(each.fee), money(each.net))
        for name, each in sorted(found.summary.sums.items())
    ]
    return {
        "sums": sums,
        "known": found.known is not None and not found.correction,
        "correction": found.correction,
        "count": f"{found.summary.line_count:,}",
        "usd": money(found.summary.movement),
        "noun": "line" if found.summary.line_count == 1 else "lines",
        "format": found.format.what,
        "statement": statement,
        "opening": money(statement.opening),
        "closing": money(statement.closing),
        "aside": [statement.reason] if statement.reason else [],
    }


@admin.register(StatementFile)
class StatementFileAdmin(ReadOnlyAdmin):
    list_display = ("seen_at", "path", "shown_state", "reason", "statement", "bank_statement")
    list_display_links = ("path",)
    list_filter = ("state",)
    list_select_related = ("statement", "bank_statement")
    ordering = ("-seen_at", "-id")

    @admin.display(description="state")
    def shown_state(self, file: StatementFile) -> SafeString:
        colours = {
            FileState.IMPORTED: "proved",
            FileState.KNOWN: "proved",
            FileState.ARRIVING: "awaiting",
            FileState.GONE: "closed",
        }
        return badge(colours.get(FileState(file.state), "discrepant"), file.state)


def known_zone(zone: str) -> str:
    """The zone a form was given. Raises ValidationError for a name that is none."""
    if zone not in available_timezones():
        raise forms.ValidationError(f"{zone!r} is no zone; write one such as Asia/Almaty or UTC")
    return zone


class TermsForm(ReasonForm):
    """Which files a lane's processor owes us."""

    lane = forms.ChoiceField()
    covers = forms.ChoiceField(choices=Covers.choices, label="A file covers a")
    time_zone = forms.CharField(
        initial="UTC", help_text="In which its days are, such as Asia/Almaty."
    )
    due_days = forms.IntegerField(
        min_value=1, max_value=62, initial=1, help_text="Days after the last day it covers."
    )
    due_time = forms.TimeField(initial="06:00", help_text="In that zone, such as 06:00.")
    field_order = ["lane", "covers", "time_zone", "due_days", "due_time", "reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["lane"].choices = [(lane, lane) for lane in settings.LANES]  # type: ignore[attr-defined]

    def clean_time_zone(self) -> str:
        return known_zone(self.cleaned_data["time_zone"])


@admin.register(StatementTerms)
class StatementTermsAdmin(AskingAdmin):
    question = Question(
        action="agree",
        title="Set a lane's statement terms",
        consequence="They concern the days that come; days already expected keep their due time.",
        verb="Set them",
    )
    form_class = TermsForm
    list_display = ("lane", "covers", "time_zone", "due_days", "due_time")
    list_display_links = None
    ordering = ("lane",)

    def answer(self, request: HttpRequest, form: ReasonForm) -> None:
        """Set a lane's terms; days expected already keep their due time."""
        said = form.cleaned_data

        def agree(_: Moment) -> StatementTerms:
            terms = agree_terms(
                lane=said["lane"],
                covers=Covers(said["covers"]),
                time_zone=said["time_zone"],
                due_days=said["due_days"],
                due_time=said["due_time"],
            )
            self.log_change(request, terms, f"{terms}: {said['reason']}")
            return terms

        try:
            terms = in_commit(agree)
        except ZoneStays as refused:
            form.add_error("time_zone", str(refused))
            return
        self.message_user(request, f"Set: {terms}", messages.SUCCESS)
