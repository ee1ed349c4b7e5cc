"""Which statements our banks owe us of which accounts, which came, and what they say."""

from datetime import timedelta
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout import wiring
from checkout.clock import Moment
from checkout.desk import AskingAdmin, Question, ReadOnlyAdmin, ReasonForm, badge, in_commit
from checkout.filters import filter_by_link, month_filter
from settlements.admin.statements import known_zone
from settlements.calendar import FEDERAL_RESERVE
from settlements.expectations import agree_bank_terms
from settlements.models import BankEntry, BankExpectation, BankStatement, BankTerms, ImportState

# Days before today that may still be owed: what is older is looked for by hand.
OLDEST: Final = 400
DayFilter = month_filter("month", "month", lambda first, last: Q(day__gte=first, day__lte=last))
OnFilter = filter_by_link("on", "day", lambda day: Q(day=day))
AccountFilter = filter_by_link("account", "account", lambda account: Q(account=account), read=str)
AGREE: Final = Question(
    action="agree",
    title="Set an account's bank terms",
    consequence="A statement is owed for each business day of the calendar. Days already expected keep "
    "their due time.",
    verb="Set them",
)


class BankTermsForm(ReasonForm):
    """For which days, and until when, a bank owes statements of an account."""

    account = forms.CharField(
        max_length=34, help_text="IBAN, or the bank's own number, as its statements write it."
    )
    from_day = forms.DateField(label="From", help_text="The first day owed, such as 2026-02-02.")
    calendar = forms.CharField(
        max_length=40,
        initial=FEDERAL_RESERVE,
        help_text="Whose holidays are no business days. Weekends never are.",
    )
    time_zone = forms.CharField(
        max_length=64, initial="UTC", help_text="Of the due time, such as Asia/Almaty."
    )
    due_days = forms.IntegerField(
        min_value=1, max_value=10, initial=1, help_text="Business days after the day it covers."
    )
    due_time = forms.TimeField(initial="09:00", help_text="In that zone, such as 09:00.")
    field_order = [
        "account",
        "from_day",
        "calendar",
        "time_zone",
        "due_days",
        "due_time",
        "reason",
    ]

    def clean_from_day(self) -> Any:
        day, today = self.cleaned_data["from_day"], wiring.clock().business_now().date()
        if not timedelta() <= today - day + timedelta(days=OLDEST) <= timedelta(days=2 * OLDEST):
            raise forms.ValidationError(f"A day at most {OLDEST} days from {today}.")
        return day

    def clean_time_zone(self) -> str:
        return known_zone(self.cleaned_data["time_zone"])


@admin.register(BankTerms)
class BankTermsAdmin(AskingAdmin):
    question = AGREE
    form_class = BankTermsForm
    list_display = ("account", "from_day", "calendar", "time_zone", "due_days", "due_time")
    list_display_links = None
    ordering = ("account",)

    def answer(self, request: HttpRequest, form: ReasonForm) -> None:
        """Set an account's terms."""
        said = dict(form.cleaned_data)
        because = said.pop("reason")

        def agree(_: Moment) -> BankTerms:
            terms = agree_bank_terms(**said)
            self.log_change(request, terms, f"{terms}: {because}")
            return terms

        terms = in_commit(agree)
        self.message_user(request, f"Set: {terms}", messages.SUCCESS)


@admin.register(BankExpectation)
class BankExpectationAdmin(ReadOnlyAdmin):
    list_display = ("day", "account", "due_at", "state", "statement")
    list_filter = ("state", DayFilter, OnFilter, AccountFilter)
    list_select_related = ("statement",)
    ordering = ("-day", "account")


@admin.register(BankStatement)
class BankStatementAdmin(ReadOnlyAdmin):
    list_display = (
        "imported_at",
        "statement_id",
        "account",
        "first_day",
        "last_day",
        "opening",
        "movement",
        "closing",
        "entries",
        "shown_state",
        "reason",
    )
    list_display_links = ("statement_id",)
    ordering = ("-imported_at", "-id")
    export_name = "bank-statements"
    total_of = "movement"
    readonly_fields = ("entries",)

    @admin.display(description="state")
    def shown_state(self, file: BankStatement) -> SafeString:
        return badge("proved" if file.state == ImportState.ACCEPTED else "discrepant", file.state)

    @admin.display(description="entries")
    def entries(self, file: BankStatement) -> SafeString:
        listed = reverse("admin:settlements_bankentry_changelist")
        return format_html(
            '<a href="{}?statement__id__exact={}">{}</a>', listed, file.pk, file.entry_count
        )


# The credits that name a payout, by the bank's value date, else its booking date.
CreditedFilter = month_filter(
    "credited",
    "month in which a payout was credited",
    lambda first, last: (
        Q(payout_credit__isnull=False, statement__state=ImportState.ACCEPTED)
        & (
            Q(value_on__gte=first, value_on__lte=last)
            | Q(value_on__isnull=True, booked_on__gte=first, booked_on__lte=last)
        )
    ),
)


@admin.register(BankEntry)
class BankEntryAdmin(ReadOnlyAdmin):
    list_display = (
        "booked_on",
        "value_on",
        "net",
        "end_to_end_id",
        "counterparty",
        "remittance",
        "reference",
        "code",
        "statement",
    )
    list_filter = (CreditedFilter,)
    list_select_related = ("statement",)
    ordering = ("-id",)
    export_name = "bank-entries"
    total_of = "net"
    search_fields = ("end_to_end_id",)
    search_help_text = "The end-to-end id, whole; a payout's own id where the processor sends it"

    def named(self, term: str) -> Q:
        return Q(end_to_end_id=term.strip())
