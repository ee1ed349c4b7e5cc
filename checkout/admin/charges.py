"""Charges and their attempts, to read; and what a person may do about an exhausted charge."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout import rescue, verdicts, wiring
from checkout.clock import start_and_end
from checkout.desk import (
    Question,
    ReadOnlyAdmin,
    ReadOnlyInline,
    ReasonForm,
    as_uuid,
    badge,
    by_id,
    decide,
    money,
    short,
)
from checkout.filters import filter_by_link, fixed_filter, month_filter
from checkout.gateways import DeclineClass
from checkout.lists import Total
from checkout.models import (
    UNCOLLECTED,
    Attempt,
    AttemptOutcome,
    Awaits,
    Charge,
    ChargeState,
    Creator,
    Subscription,
)
from checkout.money import CENT
from checkout.moves import UnknownCharge
from checkout.page import PAGING, day_named, days_named, month_named
from checkout.tallies import AGES, Tally, charges_of, layer_named
from checkout.targets import creators_named

# The lanes are the settings': asking the table for them would be a DISTINCT over it.
LaneFilter = fixed_filter(
    "lane", "lane", {lane: (lane, Q(lane=lane)) for lane in sorted(settings.LANES)}
)
# Saying `exhausted` too keeps it on the state's index.
AwaitsFilter = fixed_filter(
    "awaits",
    "what it awaits",
    {
        value: (label.lower(), Q(state=ChargeState.EXHAUSTED, awaits=value))
        for value, label in Awaits.choices
        if value
    },
)
CAPTURED = (AttemptOutcome.CAPTURED, AttemptOutcome.UNAPPLIED)
# What people look for in a list: what is not known yet, which has a partial index, and captures.
OutcomeFilter = fixed_filter(
    "outcome",
    "outcome",
    {
        "open": ("not yet known", Q(outcome=AttemptOutcome.OPEN)),
        "captured": ("captured", Q(outcome__in=CAPTURED)),
    },
)
DeclineFilter = fixed_filter(
    "decline",
    "class of decline",
    # Saying `declined` too keeps it on an index of them alone.
    {
        each.value: (
            each.value.replace("_", " "),
            Q(outcome=AttemptOutcome.DECLINED, decline_class=each),
        )
        for each in DeclineClass
    },
)
# Streamed along the index of its class and month: each probes its charge's own attempts.
_FIRST: Final = Q(outcome=AttemptOutcome.DECLINED) & (
    Q(round=1, number=1)
    | Q(
        ~Exists(
            Attempt.objects.filter(
                Q(round__lt=OuterRef("round"))
                | Q(round=OuterRef("round"), number__lt=OuterRef("number")),
                charge=OuterRef("charge"),
                outcome=AttemptOutcome.DECLINED,
            )
        )
    )
)
_COLLECTED: Final = Attempt.objects.filter(
    charge=OuterRef("charge"), outcome=AttemptOutcome.CAPTURED
)
_FIRST_DECLINES: Final[dict[str, Q]] = {"yes": _FIRST, "collected": _FIRST & Q(Exists(_COLLECTED))}
# By link alone, from the month's recovery: without a class and a month it would read all there are.
FirstFilter = filter_by_link(
    "first",
    "first decline of its charge",
    lambda which: _FIRST_DECLINES[which],
    read=lambda text: text if text in _FIRST_DECLINES else "",
    total={
        "collected": Total(Subquery(_COLLECTED.values("captured_amount")), "collected later")
    }.get,
)


def _booked_in(days: tuple[date, date]) -> Q:
    begins, ends = start_and_end(*days)
    return Q(booked_at__gte=begins, booked_at__lt=ends)


BilledFilter = month_filter(
    "month",
    "month of the billing date",
    lambda first, last: Q(period_start__gte=first, period_start__lte=last),
)
BilledOnFilter = filter_by_link("billed", "billing date", lambda day: Q(period_start=day))
BecameFilter = filter_by_link(
    "became",
    "what became of it",
    lambda layer: Q(state__in=[state.value for state in layer.states]),
    read=layer_named,
)
BookedFilter = month_filter(
    "booked",
    "month of the outcome (UTC)",
    lambda first, last: _booked_in((first, last)),
)
BookedOnFilter = filter_by_link(
    "days",
    "days of the outcome (UTC)",
    _booked_in,
    read=days_named,
)


class UncollectedFilter(admin.SimpleListFilter):
    """Owed and not collected, by days since the billing date as of today (business clock)."""

    title = "uncollected, days since billed"
    parameter_name = "uncollected"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(age.name, age.words) for age in AGES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        age = next((each for each in AGES if each.name == self.value()), None)
        if age is None:
            return queryset
        first, last = age.days(wiring.clock().business_now().date())
        return queryset.filter(
            state__in=UNCOLLECTED, period_start__gte=first, period_start__lte=last
        )


def kept_of(chosen: Mapping[str, str], *, today: date) -> Tally | None:
    """What is kept of the charges that these parameters of an address choose; None where one asks for more."""
    states, first, last = set(ChargeState), date.min, date.max
    for name, value in chosen.items():
        since, until = date.min, date.max
        if name == "state__exact":
            states &= {each for each in ChargeState if each == value}
        elif name == BecameFilter.parameter_name and (layer := layer_named(value)):
            states &= set(layer.states)
        elif name == BilledFilter.parameter_name and (month := month_named(value)):
            since, until = month
        elif name == BilledOnFilter.parameter_name and (day := day_named(value)):
            since, until = day, day
        elif name == UncollectedFilter.parameter_name and value in (each.name for each in AGES):
            states &= set(UNCOLLECTED)
            since, until = next(each for each in AGES if each.name == value).days(today)
        elif name != LaneFilter.parameter_name:
            return None
        first, last = max(first, since), min(last, until)
    lane = chosen.get(LaneFilter.parameter_name or "", "")
    return charges_of(states=states, lane=lane, first=first, last=last) if states else Tally()


def charges_named(term: str) -> Q:
    """The charges that somebody searched for: any of four ids, or a creator's external id."""
    wanted = as_uuid(term)
    if wanted is None:
        return Q(creator_id__in=creators_named(term))
    attempt = Attempt.objects.filter(pk=wanted).values_list("charge_id", flat=True).first()
    if attempt is not None:
        return Q(pk=attempt)
    return by_id(term, (Creator, "creator_id"), (Subscription, "subscription_id"))


class AttemptInline(ReadOnlyInline):
    model = Attempt
    ordering = ("round", "number")
    verbose_name_plural = "attempts"
    fields = (
        "which",
        "lane",
        "shown_outcome",
        "why",
        "captured",
        "sends",
        "queries",
        "started_at",
        "ended_at",
        "processor_reference",
    )

    @admin.display(description="round.number")
    def which(self, attempt: Attempt) -> str:
        return str(attempt)

    @admin.display(description="outcome")
    def shown_outcome(self, attempt: Attempt) -> SafeString:
        return badge(attempt.outcome)

    @admin.display(description="why")
    def why(self, attempt: Attempt) -> str:
        return why_so(attempt)

    @admin.display(description="captured USD")
    def captured(self, attempt: Attempt) -> str:
        return money(attempt.captured_amount)


def why_so(attempt: Attempt) -> str:
    """The decline, the verdict or the doubt of an attempt, in a few words."""
    if attempt.decline_class:
        return f"{attempt.decline_class}: {attempt.decline_code}"
    if attempt.verdict:
        return attempt.get_verdict_display()
    return attempt.doubt or "—"


@admin.register(Charge)
class ChargeAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "short_id",
        "creator",
        "plan",
        "period_start",
        "usd",
        "lane",
        "shown_state",
    )
    list_display_links = ("short_id",)
    list_filter = (
        "state",
        LaneFilter,
        AwaitsFilter,
        BilledFilter,
        BilledOnFilter,
        BecameFilter,
        UncollectedFilter,
    )
    list_select_related = ("creator", "terms")
    ordering = ("-created_at", "-id")
    search_fields = ("id",)
    search_help_text = (
        "The id of a charge, an attempt, a subscription or a creator, or a creator's external id"
    )
    total_of = "amount"
    export_name = "charges"
    sortable_by = ("created_at", "period_start", "usd")
    inlines = (AttemptInline,)
    actions = ("requeue", "write_off")
    fieldsets = (
        (None, {"fields": ("id", "shown_state", "creator", "subscription", "plan", "period")}),
        ("Money (USD)", {"fields": ("usd", "expected", "currency", "lane")}),
        (
            "The way so far",
            {
                "fields": (
                    ("round", "step", "dispatch"),
                    "awaits",
                    "next_round_at",
                    "retry_at",
                    "void_requested",
                    ("billed_at", "created_at", "last_seen_at"),
                    "sweeps",
                )
            },
        ),
    )
    readonly_fields = ("shown_state", "plan", "period", "usd", "expected")

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """By billing date where that is what was asked for: else a month long ago lies behind all since."""
        dated = (BilledFilter, BilledOnFilter, UncollectedFilter)
        if request.GET.keys() & {each.parameter_name for each in dated}:
            return ("-period_start", "-id")
        return self.ordering

    def named(self, term: str) -> Q:
        return charges_named(term)

    def kept(self, request: HttpRequest) -> Tally | None:
        chosen = {name: str(value) for name, value in request.GET.items() if name not in PAGING}
        return kept_of(chosen, today=wiring.clock().business_now().date())

    def has_write_off_permission(self, request: HttpRequest) -> bool:
        """Giving money up is not an operator's to decide."""
        return self._has_right(request, "write_off")

    @admin.display(description="id")
    def short_id(self, charge: Charge) -> SafeString:
        return short(charge.pk)

    @admin.display(description="state")
    def shown_state(self, charge: Charge) -> SafeString:
        return badge(charge.state)

    @admin.display(description="plan")
    def plan(self, charge: Charge) -> str:
        return charge.terms.plan_id

    @admin.display(description="period")
    def period(self, charge: Charge) -> str:
        return f"{charge.period_start} to {charge.period_end}"

    @admin.display(description="USD", ordering="amount")
    def usd(self, charge: Charge) -> SafeString:
        return format_html('<span class="money">{}</span>', money(charge.amount))

    @admin.display(description="expected by terms and calendar")
    def expected(self, charge: Charge) -> str:
        return money(charge.expected_amount)

    @admin.action(description="Open another round of exhausted charges…", permissions=["decide"])
    def requeue(self, request: HttpRequest, chosen: QuerySet[Charge]) -> HttpResponse | None:
        return decide(
            self,
            request,
            chosen,
            Question(
                action="requeue",
                title="Open another round",
                consequence="Each exhausted charge is dispatched again, with up to three attempts on "
                "its creator's newest card. It takes no dunning step. Others are left as they are.",
                verb="Open the round",
            ),
            act=lambda charge, answers, by, now: rescue.requeue(
                charge_id=charge.pk, by=by, reason=answers["reason"], now=now
            ),
            refusals=(rescue.NotRequeueable, UnknownCharge),
            amount=lambda charge: charge.amount,
        )

    @admin.action(description="Write exhausted charges off…", permissions=["write_off"])
    def write_off(self, request: HttpRequest, chosen: QuerySet[Charge]) -> HttpResponse | None:
        return decide(
            self,
            request,
            chosen,
            Question(
                action="write_off",
                title="Write off",
                consequence="Each exhausted charge is given up for good: what is still receivable is "
                "posted to the write-off account. This cannot be undone. Others are left as they are.",
                verb="Write off",
            ),
            act=lambda charge, answers, by, now: rescue.write_off(
                charge_id=charge.pk, by=by, reason=answers["reason"], now=now
            ),
            refusals=(rescue.NotWritable, UnknownCharge),
            amount=lambda charge: charge.amount,
        )


class VerdictForm(ReasonForm):
    """What a person found out at the processor."""

    happened = forms.ChoiceField(
        label="What happened",
        choices=[("", "—"), ("captured", "captured"), ("not_charged", "not charged")],
    )
    captured = forms.DecimalField(
        max_digits=12,
        decimal_places=2,
        min_value=CENT,
        required=False,
        label="Captured, in USD",
        help_text="As the processor's own books say; empty for not charged.",
    )
    field_order = ["happened", "captured", "reason"]

    def clean_captured(self) -> Decimal | None:
        """An amount if it was captured, and only then: neither is guessed from the other."""
        captured: Decimal | None = self.cleaned_data["captured"]
        if (captured is None) == (self.cleaned_data.get("happened") == "captured"):
            raise forms.ValidationError("An amount belongs to captured, and to nothing else.")
        return captured


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display = (
        "started_at",
        "short_id",
        "short_charge",
        "which",
        "lane",
        "shown_outcome",
        "why",
        "captured",
    )
    list_display_links = ("short_id",)
    list_filter = (OutcomeFilter, DeclineFilter, BookedFilter, BookedOnFilter, FirstFilter)
    ordering = ("-started_at", "-id")
    search_fields = ("id",)
    search_help_text = "The id of an attempt (the merchant reference) or of a charge"
    total_of = "amount"
    export_name = "attempts"
    sortable_by = ("started_at", "captured")
    exclude = ("next_query_at", "lane_failed_at")
    actions = ("propose_verdict",)

    @admin.action(description="Propose what became of attempts in doubt…", permissions=["decide"])
    def propose_verdict(
        self, request: HttpRequest, chosen: QuerySet[Attempt]
    ) -> HttpResponse | None:
        return decide(
            self,
            request,
            chosen,
            Question(
                action="propose_verdict",
                title="Propose a verdict",
                consequence="For an attempt whose processor does not say what became of it. Nothing "
                "changes before another person approves it under Cases.",
                verb="Propose",
            ),
            act=lambda attempt, answers, by, now: verdicts.propose_verdict(
                attempt_id=attempt.pk,
                captured=answers["captured"],
                by=by,
                reason=answers["reason"],
                now=now,
                gateways=wiring.gateways(),
                ages=wiring.ages(),
            ),
            refusals=(verdicts.NotInDoubt,),
            amount=lambda attempt: attempt.amount,
            form_class=VerdictForm,
        )

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """By the time of the outcome where that is what was asked for, as the charges' list does."""
        dated = (BookedFilter, BookedOnFilter, DeclineFilter)
        if request.GET.keys() & {each.parameter_name for each in dated}:
            return ("-booked_at", "-id")
        return self.ordering

    def named(self, term: str) -> Q:
        return by_id(term, (Charge, "charge_id"))

    @admin.display(description="id")
    def short_id(self, attempt: Attempt) -> SafeString:
        return short(attempt.pk)

    @admin.display(description="charge")
    def short_charge(self, attempt: Attempt) -> SafeString:
        return short(attempt.charge_id)

    @admin.display(description="round.number")
    def which(self, attempt: Attempt) -> str:
        return str(attempt)

    @admin.display(description="outcome")
    def shown_outcome(self, attempt: Attempt) -> SafeString:
        return badge(attempt.outcome)

    @admin.display(description="why")
    def why(self, attempt: Attempt) -> str:
        return why_so(attempt)

    @admin.display(description="captured USD", ordering="captured_amount")
    def captured(self, attempt: Attempt) -> SafeString:
        return format_html('<span class="money">{}</span>', money(attempt.captured_amount))
