"""Creators with their subscriptions and cards, to read; holds on them, and cancelling."""

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from checkout import subscriptions
from checkout.admin.holds import HoldForm, place_hold
from checkout.desk import (
    Question,
    ReadOnlyAdmin,
    ReadOnlyInline,
    as_uuid,
    badge,
    by_id,
    decide,
    short,
)
from checkout.models import Creator, HoldScope, Instrument, Plan, Subscription, SubscriptionTerms
from checkout.targets import Target, creators_named


class InstrumentInline(ReadOnlyInline):
    model = Instrument
    ordering = ("-created_at",)
    fields = ("id", "masked_token", "created_at", "dead_at", "dead_reason")

    @admin.display(description="token")
    def masked_token(self, instrument: Instrument) -> str:
        return mask(instrument.token)


def mask(token: str) -> str:
    """Enough of a processor's token to compare by eye, not enough to use."""
    return f"…{token[-4:]}"


class SubscriptionInline(ReadOnlyInline):
    model = Subscription
    ordering = ("-started_at", "-id")
    fields = ("id", "state", "started_at", "next_period_start", "past_due_since", "closed_at")


@admin.register(Creator)
class CreatorAdmin(ReadOnlyAdmin):
    list_display = ("external_id", "name", "country", "time_zone", "account", "created_at")
    list_select_related = ("account",)
    # The order of the unique index: there is none by date, and names are personal data.
    ordering = ("account_id", "external_id")
    search_fields = ("external_id",)
    search_help_text = "The creator's id, or the whole external id"
    inlines = (SubscriptionInline, InstrumentInline)
    actions = ("hold",)

    def named(self, term: str) -> Q:
        wanted = as_uuid(term)
        return Q(pk=wanted) if wanted else Q(pk__in=creators_named(term))

    @admin.action(description="Place a hold on the chosen creators…", permissions=["decide"])
    def hold(self, request: HttpRequest, chosen: QuerySet[Creator]) -> HttpResponse | None:
        return decide(
            self,
            request,
            chosen,
            Question(
                action="hold",
                title="Place a hold",
                consequence="Nothing of these creators is charged until the hold ends. It uses up "
                "no attempt and no round; what is due is dispatched again afterwards.",
                verb="Place the hold",
            ),
            act=lambda creator, answers, by, now: place_hold(
                Target(HoldScope.CREATOR, str(creator.pk)), answers, by, now
            ),
            refusals=(),
            form_class=HoldForm,
        )


class TermsInline(ReadOnlyInline):
    model = SubscriptionTerms
    ordering = ("starts_on",)
    verbose_name_plural = "terms"
    fields = ("starts_on", "plan", "price", "interval_count", "interval", "anchor", "created_at")
    show_change_link = False


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnlyAdmin):
    list_display = (
        "started_at",
        "short_id",
        "creator",
        "shown_state",
        "next_period_start",
        "closed_at",
    )
    list_display_links = ("short_id",)
    list_filter = ("state",)
    list_select_related = ("creator",)
    ordering = ("-started_at", "-id")
    search_fields = ("id",)
    search_help_text = "The id of a subscription or a creator, or a creator's external id"
    inlines = (TermsInline,)
    actions = ("cancel",)

    def named(self, term: str) -> Q:
        if as_uuid(term) is None:
            return Q(creator_id__in=creators_named(term))
        return by_id(term, (Creator, "creator_id"))

    @admin.display(description="id")
    def short_id(self, subscription: Subscription) -> SafeString:
        return short(subscription.pk)

    @admin.display(description="state")
    def shown_state(self, subscription: Subscription) -> SafeString:
        return badge(subscription.state)

    @admin.action(description="Cancel the chosen subscriptions…", permissions=["decide"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Subscription]) -> HttpResponse | None:
        return decide(
            self,
            request,
            chosen,
            Question(
                action="cancel",
                title="Cancel subscriptions",
                consequence="No further period is billed. What is owed and not in flight is voided; "
                "what is in flight is voided if the processor did not charge it, and refunded by "
                "hand if it did.",
                verb="Cancel the subscriptions",
            ),
            act=lambda subscription, answers, by, now: subscriptions.cancel(
                subscription_id=subscription.pk, by=by, reason=answers["reason"], now=now
            ),
            refusals=(),
        )


@admin.register(Instrument)
class InstrumentAdmin(ReadOnlyAdmin):
    list_display = ("id", "creator", "masked_token", "created_at", "dead_at", "dead_reason")
    list_select_related = ("creator",)
    ordering = ("creator_id", "-created_at", "-id")
    fields = ("id", "creator", "masked_token", "created_at", "dead_at", "dead_reason")
    readonly_fields = ("masked_token",)
    search_fields = ("id",)
    search_help_text = "The id of an instrument or a creator, or a creator's external id"

    def named(self, term: str) -> Q:
        if as_uuid(term) is None:
            return Q(creator_id__in=creators_named(term))
        return by_id(term, (Creator, "creator_id"))

    @admin.display(description="token")
    def masked_token(self, instrument: Instrument) -> str:
        return mask(instrument.token)


@admin.register(Plan)
class PlanAdmin(ReadOnlyAdmin):
    list_display = ("code", "name", "price", "interval_count", "interval")
    ordering = ("code",)
