"""What was written down: messages, cases, the books, webhooks, keys, signs of life."""

from datetime import date
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout import billing, readings, rescue, verdicts, wiring
from checkout.clock import start_and_end
from checkout.desk import (
    Question,
    ReadOnlyAdmin,
    ReadOnlyInline,
    as_uuid,
    badge,
    by_id,
    decide,
    instant,
    money,
    short,
)
from checkout.filters import filter_by_link, filter_by_person, fixed_filter
from checkout.lists import Total
from checkout.models import (
    CASE_WAITS,
    Account,
    ApiKey,
    Attempt,
    Case,
    Charge,
    Creator,
    Door,
    Heartbeat,
    LedgerEntry,
    LedgerPosting,
    OutboxMessage,
    WebhookDelivery,
)
from checkout.page import days_named, month_named
from checkout.requeues import by_another
from checkout.targets import creators_named

OpenFilter = fixed_filter(
    "open",
    "open or closed",
    {"yes": ("open", Q(closed_at__isnull=True)), "no": ("closed", Q(closed_at__isnull=False))},
)
WaitingFilter = filter_by_person(
    "waiting", "waits for", {"me": ("me", lambda me: CASE_WAITS & by_another(me))}
)
LettersFilter = fixed_filter(
    "letters",
    "dead letters, with those nobody could read",
    {
        "open": ("open", Q(kind__in=readings.DEAD, closed_at__isnull=True)),
        "all": ("open and closed", Q(kind__in=readings.DEAD)),
    },
)


def _pending(door: Door) -> dict[str, tuple[str, Q]]:
    """What has not left by this door, in the three parts that `outbox.depth` counts."""
    waits = Q(pending__door=door.value, pending__parked_at__isnull=True)
    return {
        door.value: (f"by {door.value}, now", waits & Q(pending__available_at__lte=Now())),
        f"{door}-later": (f"by {door.value}, later", waits & Q(pending__available_at__gt=Now())),
        f"{door}-parked": (
            f"parked at {door.value}",
            Q(pending__door=door.value, pending__parked_at__isnull=False),
        ),
    }


UnpublishedFilter = fixed_filter(
    "waiting",
    "waiting to leave",
    {value: choice for door in Door for value, choice in _pending(door).items()},
)
UnappliedFilter = fixed_filter(
    "applied", "applied", {"no": ("not yet", Q(applied_at__isnull=True))}
)


def _posted_in(days: tuple[date, date]) -> Q:
    begins, ends = start_and_end(*days)
    return Q(posted_at__gte=begins, posted_at__lt=ends)


PostedFilter = filter_by_link(
    "posted",
    "posted (UTC)",
    _posted_in,
    read=lambda text: days_named(text) or month_named(text),
)
_DEBITS = LedgerPosting.objects.filter(entry=OuterRef("pk"), amount__gt=0).values("entry")
# Debits equal credits: their difference would say nothing.
DEBITS = Total(Subquery(_DEBITS.annotate(usd=Sum("amount")).values("usd")), "debits")


@admin.register(OutboxMessage)
class OutboxMessageAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "created_at",
        "door",
        "type",
        "short_subject",
        "event_seq",
        "whereabouts",
    )
    list_filter = ("door", UnpublishedFilter)
    list_select_related = ("pending", "published")
    ordering = ("-created_at", "-id")
    search_fields = ("id",)
    search_help_text = "The event id, the subject's id (a charge) or the creator's id"

    def named(self, term: str) -> Q:
        wanted = as_uuid(term)
        if wanted and OutboxMessage.objects.filter(event_id=wanted).exists():
            return Q(event_id=wanted)
        if wanted and Creator.objects.filter(pk=wanted).exists():
            # The creator's sequence, and so its index, is on the Kafka door alone.
            return Q(key=wanted, door=Door.KAFKA)
        return by_id(term, otherwise="subject")

    @admin.display(description="subject")
    def short_subject(self, message: OutboxMessage) -> SafeString:
        return short(message.subject)

    @admin.display(description="where it is")
    def whereabouts(self, message: OutboxMessage) -> str:
        waiting, sent = message.waiting, message.acknowledged
        if waiting is not None and waiting.parked_at:
            return f"parked: {waiting.last_error}"
        if sent is None:
            return "waits" + (f", {waiting.tries} tries" if waiting and waiting.tries else "")
        if sent.kafka_offset is None:
            return f"sent {instant(sent.published_at)}"
        seen = ", read back" if sent.seen_at else ""
        return f"partition {sent.kafka_partition} at {sent.kafka_offset}{seen}"


@admin.register(Case)
class CaseAdmin(ReadOnlyAdmin):
    list_display = ("opened_at", "shown_state", "kind", "short_charge", "usd", "reason", "proposal")
    list_display_links = ("opened_at", "kind")
    list_filter = ("kind", OpenFilter, WaitingFilter, LettersFilter)
    ordering = ("-opened_at", "-id")
    search_fields = ("subject",)
    search_help_text = "The id of a charge or a creator"
    total_of = "amount"
    export_name = "cases"
    actions = ("close", "approve_bill_run", "approve_verdict")

    @admin.action(description="Close what was looked into…", permissions=["decide"])
    def close(self, request: HttpRequest, chosen: QuerySet[Case]) -> HttpResponse | None:
        return decide(
            self,
            request,
            chosen,
            Question(
                action="close",
                title="Close cases",
                consequence="Each case leaves the list of what waits for a person; nothing else "
                "changes. Money to give back is not closed so.",
                verb="Close",
            ),
            act=lambda case, answers, by, now: rescue.close_case(
                case_id=case.pk, by=by, reason=answers["reason"], now=now
            ),
            refusals=(rescue.NotClosable,),
            amount=lambda case: case.amount,
        )

    @admin.action(description="Approve another person's verdict…", permissions=["approve"])
    def approve_verdict(self, request: HttpRequest, chosen: QuerySet[Case]) -> HttpResponse | None:
        return decide(
            self,
            request,
            chosen,
            Question(
                action="approve_verdict",
                title="Approve verdicts",
                consequence="What was proposed becomes the attempt's outcome: captured is booked as "
                "paid, not charged is dispatched again. Nobody approves what he proposed.",
                verb="Approve",
            ),
            act=lambda case, answers, by, now: verdicts.approve_verdict(
                case_id=case.pk,
                seen=answers["seen"],
                by=by,
                reason=answers["reason"],
                now=now,
                gateways=wiring.gateways(),
                ages=wiring.ages(),
            ),
            refusals=(verdicts.NotApprovable, verdicts.NotInDoubt),
            amount=lambda case: case.amount,
            shown=lambda case: case.proposed,
        )

    @admin.action(description="Approve a bill run as planned…", permissions=["approve"])
    def approve_bill_run(self, request: HttpRequest, chosen: QuerySet[Case]) -> HttpResponse | None:
        return decide(
            self,
            request,
            chosen,
            Question(
                action="approve_bill_run",
                title="Approve bill run",
                consequence="Exactly these charges are billed that day as planned, though the "
                "calendar differs; reconciliation names each that is not what it expects.",
                verb="Approve",
            ),
            act=lambda case, answers, by, now: billing.approve_bill_run(
                case_id=case.pk, by=by, reason=answers["reason"], now=now
            ),
            refusals=(billing.NotApprovable,),
            amount=lambda case: case.amount,
            shown=lambda case: case.proposed,
        )

    def named(self, term: str) -> Q:
        if as_uuid(term) is None:
            return Q(creator_id__in=creators_named(term))
        return by_id(term, (Charge, "charge_id"), otherwise="creator_id")

    @admin.display(description="charge")
    def short_charge(self, case: Case) -> SafeString | str:
        return short(case.charge_id) if case.charge_id else "—"

    @admin.display(description="USD")
    def usd(self, case: Case) -> SafeString:
        return format_html('<span class="money">{}</span>', money(case.amount))

    @admin.display(description="state")
    def shown_state(self, case: Case) -> SafeString:
        return badge("closed") if case.closed_at else badge("open")


class PostingInline(ReadOnlyInline):
    model = LedgerPosting
    ordering = ("id",)
    fields = ("account", "lane", "amount")
    show_change_link = False


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ("posted_at", "kind", "short_charge", "postings_in_words")
    list_display_links = ("posted_at", "kind")
    list_filter = (PostedFilter,)
    ordering = ("-posted_at", "-id")
    export_name = "ledger-entries"
    total_of = DEBITS
    search_fields = ("id",)
    search_help_text = "The id of an entry, a charge or an attempt"
    inlines = (PostingInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("postings")

    def named(self, term: str) -> Q:
        return by_id(term, (Charge, "charge_id"), (Attempt, "attempt_id"))

    @admin.display(description="charge")
    def short_charge(self, entry: LedgerEntry) -> SafeString | str:
        return short(entry.charge_id) if entry.charge_id else "—"

    @admin.display(description="postings (debit +, credit −)")
    def postings_in_words(self, entry: LedgerEntry) -> str:
        return " · ".join(
            f"{posting.account} {posting.amount:+,.2f}" for posting in entry.postings.all()
        )


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ("name", "id", "created_at")
    ordering = ("name",)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("prefix", "account", "label", "created_at", "revoked_at")
    list_select_related = ("account",)
    ordering = ("prefix",)
    # Not even the hash of the secret is shown.
    fields = ("prefix", "account", "label", "created_at", "revoked_at")


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    list_display = (
        "received_at",
        "processor",
        "event_id",
        "kind",
        "reference",
        "applied_at",
        "tries",
    )
    list_display_links = ("event_id",)
    list_filter = (UnappliedFilter,)
    ordering = ("-id",)
    exclude = ("body",)


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnlyAdmin):
    list_display = ("name", "beat_at", "detail")
    ordering = ("name",)
