"""Exports: ask for the file of what a list shows, see what became of it, download it."""

import hashlib
from pathlib import Path
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout import wiring
from checkout.clock import Moment
from checkout.desk import ReadOnlyAdmin, ReasonForm, badge, in_commit, money
from checkout.page import in_both_zones, in_snapshot
from settlements.admin.export_pages import Offer, may_see, offer
from settlements.exports import runs
from settlements.exports.making import NotMakeable
from settlements.exports.xlsx_file import MOST_ROWS
from settlements.models import (
    BooksClose,
    Decision,
    ExportForm,
    ExportRun,
    ExportState,
    ExportWhat,
    Span,
)

BADGES: Final = {
    ExportState.ASKED: "pending",
    ExportState.MADE: "proved",
    ExportState.FAILED: "refused",
}
TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "zip": "application/zip",
}
NO_FOLDER: Final = (
    "No exports are made here: EXPORTS_FOLDER is not set. An operator sets it, and starts "
    "manage.py export_worker; until then there is the command manage.py export."
)
MONTHS_OFFERED: Final = 12
# Longer than that nobody waits for a worker that runs.
PATIENCE_SECONDS: Final = 60


class AskForm(ReasonForm):
    """In which form, and why."""

    form = forms.ChoiceField(label="Form")
    field_order = ["form", "reason"]

    def __init__(self, *args: Any, offered: tuple[ExportForm, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(each.value, each.label) for each in offered]
        self.fields["form"].choices = choices  # type: ignore[attr-defined]


@admin.register(ExportRun)
class ExportRunAdmin(ReadOnlyAdmin):
    list_display = (
        "asked_at",
        "name",
        "filter",
        "shown_rows",
        "usd",
        "shown_state",
        "download",
        "asked_by",
        "form",
        "as_of",
    )
    list_display_links = ("asked_at", "name")
    list_filter = ("state", "what")
    ordering = ("-asked_at", "-id")

    def has_ask_permission(self, request: HttpRequest) -> bool:
        return self._has_right(request, "add")

    def has_download_permission(self, request: HttpRequest) -> bool:
        return self._has_right(request, "download")

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        """Without the button for those who may not press it."""
        may = self.has_download_permission(request)
        return tuple(name for name in self.list_display if may or name != "download")

    @admin.display(description="list")
    def name(self, run: ExportRun) -> str:
        return ExportWhat(run.what).label.capitalize()

    @admin.display(description="filter")
    def filter(self, run: ExportRun) -> str:
        return run.words

    @admin.display(description="rows")
    def shown_rows(self, run: ExportRun) -> str:
        return "—" if run.rows is None else f"{run.rows:,}"

    @admin.display(description="USD")
    def usd(self, run: ExportRun) -> SafeString:
        return format_html('<span class="money">{}</span>', money(run.total))

    @admin.display(description="state")
    def shown_state(self, run: ExportRun) -> SafeString:
        words = "file removed" if run.removed_at else run.state
        return badge("closed" if run.removed_at else BADGES[ExportState(run.state)], words)

    @admin.display(description="file")
    def download(self, run: ExportRun) -> SafeString | str:
        """The list stands in a form of Django's own, so the button says where it posts to."""
        if not run.is_there:
            return "—"
        address = reverse("admin:settlements_exportrun_download", args=[run.pk])
        return format_html(
            '<button type="submit" class="button" formaction="{}" aria-label="Download export {}">'
            "Download</button>",
            address,
            run.pk,
        )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("ask/<slug:what>/", view(self.ask_view), name="settlements_exportrun_ask"),
            path(
                "<int:run_id>/download/",
                view(self.download_view),
                name="settlements_exportrun_download",
            ),
            *super().get_urls(),
        ]

    def _list(self, request: HttpRequest, extra_context: dict[str, Any] | None) -> HttpResponse:
        months = BooksClose.objects.filter(span=Span.MONTH, decision=Decision.APPROVED)
        closed = [close.name for close in months.order_by("-first_day", "-id")[:MONTHS_OFFERED]]
        context = {
            "closed_months": closed if self.has_ask_permission(request) else [],
            "no_folder": "" if settings.EXPORTS_FOLDER else NO_FOLDER,
        }
        return super()._list(request, {**context, **(extra_context or {})})

    # --- Asking -------------------------------------------------------------------------------------

    def ask_view(self, request: HttpRequest, what: str) -> HttpResponse:
        """What would be exported, as its list shows it now; posted, it is asked for."""
        if not self.has_ask_permission(request):
            raise PermissionDenied
        if what not in ExportWhat.values:
            raise Http404(f"there is no export of {what}")
        try:
            found = offer(
                what=ExportWhat(what), query=request.META["QUERY_STRING"], by=request.user
            )
        except NotMakeable as refusal:
            self.message_user(request, str(refusal), messages.WARNING)
            return HttpResponseRedirect(reverse("admin:settlements_exportrun_changelist"))
        if request.method == "POST":
            return self._ask(request, found)
        return in_snapshot(lambda: self._asking(request, found, AskForm(offered=found.forms)))

    def _asking(self, request: HttpRequest, found: Offer, form: AskForm) -> HttpResponse:
        context: dict[str, Any] = self.admin_site.each_context(request) | {
            "title": f"Export: {found.what.label.lower()}",
            "opts": self.opts,
            "printed": found.printed,
            "offer": found,
            "form": form,
            "most_rows": MOST_ROWS,
            "kept_days": settings.EXPORTS_KEPT_DAYS,
            "no_folder": "" if settings.EXPORTS_FOLDER else NO_FOLDER,
        }
        return TemplateResponse(request, "admin/settlements/exportrun/ask.html", context)

    def _ask(self, request: HttpRequest, found: Offer) -> HttpResponse:
        form = AskForm(request.POST, offered=found.forms)
        if not settings.EXPORTS_FOLDER:
            form.add_error(None, NO_FOLDER)
        elif form.is_valid() and _is_too_long(found, form.cleaned_data["form"]):
            form.add_error(
                "form",
                f"There are more than {MOST_ROWS:,} rows, and a workbook takes no more. Take CSV, or "
                "narrow the filter on the list.",
            )
        if not form.is_valid():
            return self._asking(request, found, form)

        def write_down(now: Moment) -> ExportRun:
            run = runs.ask(
                what=found.what,
                form=ExportForm(form.cleaned_data["form"]),
                query=found.query,
                words=found.words,
                by=request.user.get_username(),
                reason=form.cleaned_data["reason"],
                now=now,
            )
            self.log_addition(request, run, f"Asked for {run.what}, {run.words}: {run.reason}")
            return run

        run = in_commit(write_down)
        self.message_user(request, "Asked for. This page has the file as soon as it is made.")
        return HttpResponseRedirect(reverse("admin:settlements_exportrun_change", args=[run.pk]))

    # --- One of them, and its file ------------------------------------------------------------------

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What became of it, and the button."""
        waited = wiring.clock().real_now() - row.asked_at
        return {
            "title": f"Export {row.pk}: {self.name(row)}",
            "state": self.shown_state(row),
            "usd": "" if row.total is None else money(row.total),
            "as_of": in_both_zones(row.as_of) if row.as_of else "",
            "asked_at": in_both_zones(row.asked_at),
            "form_name": ExportForm(row.form).label,
            "is_waiting": row.state == ExportState.ASKED,
            "is_forgotten": row.state == ExportState.ASKED
            and row.tries == 0
            and waited.total_seconds() > PATIENCE_SECONDS,
            "may_download": row.is_there
            and self.has_download_permission(request)
            and may_see(ExportWhat(row.what), request.user),
            "kept_days": settings.EXPORTS_KEPT_DAYS,
        }

    def download_view(self, request: HttpRequest, run_id: int) -> HttpResponseBase:
        """The file, streamed; posted, because it is written down who took it and when."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_download_permission(request):
            raise PermissionDenied
        run = get_object_or_404(ExportRun, pk=run_id)
        if not may_see(ExportWhat(run.what), request.user):
            raise PermissionDenied
        whole = _whole_file(run)
        if isinstance(whole, str):
            self.message_user(request, whole, messages.WARNING)
            back = reverse("admin:settlements_exportrun_change", args=[run.pk])
            return HttpResponseRedirect(back)
        self.log_change(request, run, f"Downloaded {run.download_name}, SHA-256 {run.sha256}.")
        answer = FileResponse(
            whole.open("rb"),
            as_attachment=True,
            filename=run.download_name,
            content_type=TYPES[run.download_name.rpartition(".")[2]],
        )
        answer["X-Content-Type-Options"] = "nosniff"
        answer["Cache-Control"] = "no-store"
        return answer


def _is_too_long(found: Offer, form: str) -> bool:
    """Whether a workbook would be refused; counted no further than that."""
    if form != ExportForm.XLSX or found.rows is None:
        return False
    return found.rows.order_by()[: MOST_ROWS + 1].count() > MOST_ROWS


def _whole_file(run: ExportRun) -> Path | str:
    """Where the file is, or why it cannot be handed out: its bytes must be those that were made."""
    if run.removed_at:
        return f"The file was removed {run.removed_at:%Y-%m-%d}. Ask for it again from its list."
    if not run.is_there or not settings.EXPORTS_FOLDER:
        return "There is no file yet."
    whole = Path(settings.EXPORTS_FOLDER) / run.file
    try:
        with whole.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return (
            f"The file cannot be read here ({error.strerror}). An operator looks whether this process "
            "sees the folder EXPORTS_FOLDER of the worker; or ask again."
        )
    if sha256 != run.sha256:
        return "The file is no longer the one that was made. Tell an operator, and ask again."
    return whole
