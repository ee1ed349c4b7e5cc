"""The two sides of bench/bill_due.py, and the rows they start from."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from dateutil.relativedelta import relativedelta
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Count, Sum

from checkout import billing, ledger, outbox, routing
from checkout.clock import Ages, Clock, Moment
from checkout.models import (
    Account,
    Charge,
    Creator,
    EntryKind,
    LedgerAccount,
    LedgerPosting,
    OutboxMessage,
    Plan,
    RoutingRule,
    Subscription,
    SubscriptionTerms,
)
from checkout.moves import record_charge_event

CLOCK = Clock()
NAMES = UUID("0b2f5c52-52b4-5c8d-8a0e-2f6f0b0c9a10")
NEVER = datetime(2999, 1, 1, tzinfo=UTC)


def prepare(*, subscriptions: int, groups: int) -> None:
    """Tables, one plan, and for each group so many subscriptions in their second period."""
    call_command("migrate", verbosity=0)
    now = CLOCK.now()
    account = Account.objects.create(id=uuid5(NAMES, "account"), name="bench", created_at=now.real)
    plan = Plan.objects.create(code="monthly", name="Monthly", price="19.99", interval="month")
    RoutingRule.objects.create(
        country="KZ",
        lane="cis",
        valid_from=now.business.date() - timedelta(days=400),
        reason="bench",
        source="bench",
        source_date=now.business.date(),
    )
    for group in range(groups):
        _subscribe(account, plan, group=group, subscriptions=subscriptions, now=now)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def fall_due(*, group: int) -> None:
    """Make the group's subscriptions due, and them alone."""
    Subscription.objects.filter(creator__external_id__startswith=f"{group}-").update(
        next_billing_at=CLOCK.business_now() - timedelta(minutes=1)
    )


def bill_set_based() -> None:
    """The product."""
    billing.bill_due(clock=CLOCK, ages=Ages())


def bill_one_by_one() -> None:
    """The same for each subscription in a transaction of its own, object by object."""
    due = Subscription.objects.filter(
        state__in=["active", "past_due"], next_billing_at__lte=CLOCK.business_now()
    )
    for subscription_id in list(due.order_by("next_billing_at", "id").values_list("id", flat=True)):
        with transaction.atomic():
            _bill_one(subscription_id, now=CLOCK.now())


def differences(*, groups: int, subscriptions: int) -> list[str]:
    """What one side wrote and the other did not; empty when both did the same."""
    by_group = {}
    for group in range(groups):
        charges = Charge.objects.filter(creator__external_id__startswith=f"{group}-")
        by_group[group] = (
            charges.aggregate(n=Count("id"), usd=Sum("amount"), own=Sum("expected_amount")),
            LedgerPosting.objects.filter(charge__in=charges).count(),
            OutboxMessage.objects.filter(subject__in=charges.values("id")).count(),
            Subscription.objects.filter(
                creator__external_id__startswith=f"{group}-",
                next_billing_at__gt=CLOCK.business_now(),
            ).count(),
        )
    return [f"group {g}: {found}" for g, found in by_group.items() if found != by_group[0]] + (
        [] if by_group[0][0]["n"] == subscriptions else [f"{by_group[0]} of {subscriptions}"]
    )


def _bill_one(subscription_id: UUID, *, now: Moment) -> None:
    subscription = Subscription.objects.select_related("creator").get(pk=subscription_id)
    Creator.lock([subscription.creator_id])
    begun = subscription.terms.filter(starts_on__lte=subscription.next_period_start)
    terms = begun.order_by("-starts_on")[0]
    start = subscription.next_period_start
    end = billing.period_end(
        anchor=terms.anchor, interval=terms.interval, count=terms.interval_count, start=start
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT checkout_expected_amount(%s, %s)", [subscription_id, start])
        (expected,) = cursor.fetchone()
    charge = Charge.objects.create(
        id=Charge.derive_id(subscription_id=subscription_id, period_start=start),
        creator_id=subscription.creator_id,
        subscription=subscription,
        terms=terms,
        period_start=start,
        period_end=end,
        amount=terms.price,
        expected_amount=expected,
        billed_at=now.business,
        created_at=now.real,
        last_seen_at=now.real,
        lane=routing.lane_for(country=subscription.creator.country, on=now.business.date()).lane,
    )
    ledger.post(
        kind=EntryKind.BILLED,
        charge=charge,
        postings={LedgerAccount.RECEIVABLE: terms.price, LedgerAccount.REVENUE: -terms.price},
        now=now,
    )
    record_charge_event(charge, "charge.billed", now=now)
    outbox.record_dispatch(charge=charge, now=now)
    subscription.next_period_start = end
    subscription.next_billing_at = billing.begins_at(end, subscription.time_zone)
    subscription.save(update_fields=["next_period_start", "next_billing_at"])


def _subscribe(
    account: Account, plan: Plan, *, group: int, subscriptions: int, now: Moment
) -> None:
    today = now.business.date()
    creators = [
        Creator(
            id=Creator.derive_id(account_id=account.id, external_id=f"{group}-{number}"),
            account=account,
            external_id=f"{group}-{number}",
            name="Bench",
            email="bench@example.com",
            country="KZ",
            time_zone="Asia/Almaty",
            created_at=now.real,
        )
        for number in range(subscriptions)
    ]
    started = [
        Subscription(
            id=uuid5(creator.id, "subscription"),
            creator=creator,
            time_zone=creator.time_zone,
            started_at=now.business - timedelta(days=31),
            next_period_start=today,
            next_billing_at=NEVER,
        )
        for creator in creators
    ]
    Creator.objects.bulk_create(creators)
    Subscription.objects.bulk_create(started)
    anchor = today - relativedelta(months=1)
    SubscriptionTerms.objects.bulk_create(
        SubscriptionTerms(
            subscription=one,
            plan=plan,
            price=plan.price,
            interval=plan.interval,
            interval_count=plan.interval_count,
            anchor=anchor,
            starts_on=anchor,
            created_at=now.real,
        )
        for one in started
    )
