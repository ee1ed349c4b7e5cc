"""The admin is read-only; its few decisions ask for a reason, call use cases and leave a trace."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client, RequestFactory
from django.urls import reverse

from checkout import billing, rescue
from checkout.models import (
    ApiKey,
    CaseKind,
    Charge,
    ChargeState,
    Hold,
    HoldScope,
    LedgerAccount,
    Subscription,
    SubscriptionState,
)
from checkout.moves import open_case
from checkout.readings import holds, open_cases
from settlements.models import (
    Proposal,
    Way,
)
from tests.factories import LANE, World, account, creator, fresh, subscription_of
from tests.factories_pages import exhausted, one_of_nearly_everything
from tests.fakes import FakeClock
from tests.situations import succeeded

pytestmark = pytest.mark.django_db

OURS = [
    model
    for label in ("checkout", "settlements")
    for model in apps.get_app_config(label).get_models()
    if model in admin.site._registry
]
CHOSEN = ACTION_CHECKBOX_NAME


@pytest.fixture
def world() -> World:
    return World()


def staff(*rights: str) -> Client:
    user = User.objects.create_user("finance", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    client = Client()
    client.force_login(user)
    return client


def list_of(name: str) -> str:
    return reverse(f"admin:checkout_{name}_changelist")


# --- Read-only -------------------------------------------------------------------------------------


def test_nobody_adds_a_row_by_hand(admin_client: Client) -> None:
    """Not even a superuser: rows change through use cases alone."""
    for model in OURS:
        names = f"admin:{model._meta.app_label}_{model._meta.model_name}_"
        assert admin_client.get(reverse(names + "changelist")).status_code == 200, names
        assert admin_client.get(reverse(names + "add")).status_code == 403, names


def test_every_page_of_a_row_opens_and_changes_nothing(
    world: World, admin_client: Client, tmp_path: Path
) -> None:
    one_of_nearly_everything(world, tmp_path)
    opened, request = set(), RequestFactory().get("/admin/")
    for model in OURS:
        # Of proposals the match: the other is opened by the tests of the desk.
        matches = {"way": Way.MATCHED} if model is Proposal else {}
        # What its list holds: a capture is an attempt that took money.
        row = admin.site._registry[model].get_queryset(request).filter(**matches).first()
        if row is None:
            continue
        names = f"admin:{model._meta.app_label}_{model._meta.model_name}_"
        url = reverse(names + "change", args=[row.pk])
        assert admin_client.get(url).status_code == 200, url
        history = reverse(names + "history", args=[row.pk])
        assert admin_client.get(history).status_code == 200, history
        assert admin_client.post(url, {}).status_code == 403, url
        assert admin_client.post(reverse(names + "delete", args=[row.pk])).status_code == 403
        opened.add(model.__name__)
    assert {model.__name__ for model in OURS} - opened <= {"RouteSchedule", "FeeTerms"}


def test_tokens_and_secrets_are_on_no_page(world: World, admin_client: Client) -> None:
    key = ApiKey.issue(
        account=account(clock=world.clock), label="frontend", now=world.clock.real_now()
    )
    charge = world.due_charge(token="tok_approve_canary_4242")
    world.receive(charge)
    stored = ApiKey.objects.get()
    pages = [
        reverse("admin:checkout_apikey_change", args=[stored.pk]),
        list_of("apikey"),
        list_of("instrument"),
        reverse("admin:checkout_creator_change", args=[charge.creator_id]),
        reverse("admin:checkout_instrument_change", args=[charge.attempts.get().instrument_id]),
        reverse("admin:checkout_attempt_change", args=[charge.attempts.get().pk]),
        reverse("charge_proof", args=[charge.pk]),
    ]
    for page in pages:
        shown = admin_client.get(page).content.decode()
        assert "canary" not in shown, page
        assert stored.secret_sha256 not in shown, page
        assert key.split("_", 2)[2] not in shown, page


def test_the_pages_carry_a_strict_policy_and_no_inline_code(
    world: World, admin_client: Client
) -> None:
    charge = world.due_charge()
    for page in (
        "/admin/",
        "/admin/login/",
        list_of("charge"),
        reverse("admin:checkout_charge_change", args=[charge.pk]),
        reverse("charge_proof", args=[charge.pk]),
        reverse("admin:checkout_hold_place"),
        reverse("match_by_hand"),
    ):
        answer = admin_client.get(page, follow=True)
        policy = answer["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        shown = answer.content.decode()
        assert " style=" not in shown, page
        assert "<style" not in shown, page
        assert "onclick" not in shown, page


# --- Decisions --------------------------------------------------------------------------------------


def decide(client: Client, name: str, action: str, rows: list[str], **answers: str) -> str:
    answer = client.post(list_of(name), {"action": action, CHOSEN: rows, **answers}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_decision_first_shows_how_many_and_how_much_and_asks_why(
    world: World, admin_client: Client
) -> None:
    rows = [str(exhausted(world).pk), str(exhausted(world, "199.00").pk)]

    page = decide(admin_client, "charge", "requeue", rows)

    assert "<strong>2</strong> charges" in page
    assert "<strong>218.99</strong> USD" in page
    assert set(Charge.objects.values_list("state", flat=True)) == {ChargeState.EXHAUSTED}

    again = decide(admin_client, "charge", "requeue", rows, decided="yes", reason="  ")
    assert "This field is required" in again
    assert set(Charge.objects.values_list("state", flat=True)) == {ChargeState.EXHAUSTED}


def test_requeue_opens_a_round_and_leaves_a_trace(world: World, admin_client: Client) -> None:
    charge = exhausted(world)

    page = decide(
        admin_client,
        "charge",
        "requeue",
        [str(charge.pk)],
        decided="yes",
        reason="card was topped up",
    )

    assert "done for 1 of 1" in page
    assert (fresh(charge).state, fresh(charge).round) == (ChargeState.DUE, 2)
    trace = LogEntry.objects.get()
    assert trace.object_id == str(charge.pk)
    assert "card was topped up" in trace.get_change_message()
    told = admin_client.get(reverse("charge_proof", args=[charge.pk])).content.decode()
    assert "card was topped up" in told


def test_a_refusal_of_the_use_case_is_shown_and_leaves_no_trace(
    world: World, admin_client: Client
) -> None:
    charge = exhausted(world)
    rows, why = [str(charge.pk)], {"decided": "yes", "reason": "card was topped up"}
    decide(admin_client, "charge", "requeue", rows, **why)

    page = decide(admin_client, "charge", "requeue", rows, **why)

    assert "only exhausted ones may" in page
    assert "done for 0 of 1" in page
    assert LogEntry.objects.count() == 1


def test_write_off_posts_to_the_books(world: World, admin_client: Client) -> None:
    charge = exhausted(world)

    decide(
        admin_client,
        "charge",
        "write_off",
        [str(charge.pk)],
        decided="yes",
        reason="creator is gone",
    )

    assert fresh(charge).state == ChargeState.WRITTEN_OFF
    posted = charge.postings.get(account=LedgerAccount.WRITE_OFF)
    assert posted.amount == Decimal("19.99")


def test_cancelling_a_subscription_voids_what_is_owed(world: World, admin_client: Client) -> None:
    charge = world.due_charge()

    decide(
        admin_client,
        "subscription",
        "cancel",
        [str(charge.subscription_id)],
        decided="yes",
        reason="asked by the creator",
    )

    assert subscription_of(charge).state == SubscriptionState.CANCELLED
    assert fresh(charge).state == ChargeState.VOIDED


def test_a_bill_run_that_waits_is_approved_on_its_case(world: World, admin_client: Client) -> None:
    """DESIGN 4: off the calendar's own count it waits for a person; here is where that person is."""
    off = billing.Off(UUID(int=7), date(2026, 2, 28), Decimal("19.99"), None)
    case = billing.hold_bill_run(off=billing.OffCalendar([off], of=1), now=world.clock.now())

    page = decide(
        admin_client,
        "case",
        "approve_bill_run",
        [str(case.pk)],
        decided="yes",
        reason="seen with support",
    )

    case.refresh_from_db()
    assert "done for 1 of 1" in page
    assert (case.approved_by, case.closed_because) == ("admin", "seen with support")


def test_a_dead_letter_that_was_looked_into_is_closed(world: World, admin_client: Client) -> None:
    case = rescue.keep_unreadable(
        subject="m-1", body="{", reason="not a message of ours", now=world.clock.now()
    )

    decide(admin_client, "case", "close", [str(case.pk)], decided="yes", reason="sent by a test")

    case.refresh_from_db()
    assert (case.closed_because, LogEntry.objects.count()) == ("admin: sent by a test", 1)
    assert not open_cases()
    again = decide(admin_client, "case", "close", [str(case.pk)], decided="yes", reason="again it")
    assert "done for 0 of 1" in again


def test_money_to_give_back_is_not_closed_by_a_look(world: World, admin_client: Client) -> None:
    """R43: a refund is proposed; who approves it is another person."""
    charge = succeeded(world)
    case = open_case(
        CaseKind.UNAPPLIED_RECEIPT,
        charge,
        subject="a second capture",
        amount=charge.amount,
        reason="captured twice",
        proposal="refund 19.99 USD",
        now=world.clock.now(),
    )

    page = decide(
        admin_client, "case", "close", [str(case.pk)], decided="yes", reason="looked into"
    )

    case.refresh_from_db()
    assert "it proposes what a second person has to approve" in page
    assert case.closed_at is None


def test_a_hold_on_a_creator_is_placed_and_lifted_with_names(
    world: World, admin_client: Client
) -> None:
    who = creator(clock=world.clock)
    decide(
        admin_client,
        "creator",
        "hold",
        [str(who.pk)],
        decided="yes",
        reason="asked by support",
        kind="hold",
        minutes="60",
    )

    hold = Hold.objects.get()
    assert (hold.scope, hold.subject, hold.placed_by) == (HoldScope.CREATOR, str(who.pk), "admin")
    assert hold.until is not None

    decide(admin_client, "hold", "lift", [str(hold.pk)], decided="yes", reason="it is solved")
    assert holds(FakeClock().real_now()) == []
    assert Hold.objects.get().lifted_by == "admin"


def test_a_lane_is_paused_on_a_page_of_its_own(admin_client: Client) -> None:
    url = reverse("admin:checkout_hold_place")
    refused = admin_client.post(url, {"target": "mars", "kind": "pause", "reason": "maintenance"})
    assert refused.status_code == 200
    assert not Hold.objects.exists()

    answer = admin_client.post(
        url,
        {"target": LANE, "kind": "pause", "minutes": "30", "reason": "maintenance"},
        follow=True,
    )

    assert "Stopped: cis (maintenance)" in answer.content.decode()
    assert Hold.objects.get().subject == LANE
    assert LogEntry.objects.count() == 1


def test_who_may_only_look_cannot_decide(world: World) -> None:
    charge = exhausted(world)
    client = staff("view_charge", "view_hold", "view_subscription")

    assert "Open another round" not in client.get(list_of("charge")).content.decode()
    decide(
        client, "charge", "requeue", [str(charge.pk)], decided="yes", reason="card was topped up"
    )
    assert client.get(reverse("admin:checkout_hold_place")).status_code == 403
    assert fresh(charge).state == ChargeState.EXHAUSTED
    assert Subscription.objects.get().state != SubscriptionState.CANCELLED


def test_a_person_decides_about_no_more_than_can_be_looked_at(
    world: World, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkout.desk.MOST_DECIDED", 1)
    rows = [str(exhausted(world).pk), str(exhausted(world).pk)]

    page = decide(admin_client, "charge", "requeue", rows)

    assert "at most 1 rows" in page
