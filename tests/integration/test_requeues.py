"""Many exhausted charges requeued at once: who is chosen, who is left and why, and who decides (R29, R30, R43, R52)."""

import io
import json
from dataclasses import replace
from datetime import time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import override_settings

from checkout import requeues, rescue, routing
from checkout.failpoints import Crash
from checkout.gateways import Declined
from checkout.models import (
    BulkRequeue,
    BulkRequeueItem,
    Charge,
    ChargeState,
    HoldKind,
    HoldScope,
    RequeueOutcome,
)
from checkout.requeues import Choice, DryRun, Limit, NotChosen, NotDecidable
from settlements.drafts import Terms, approvals
from settlements.paging import Limits
from settlements.roles import APPROVER, OPERATOR, VIEWER
from tests.factories import LANE, World, dispatches, fresh
from tests.factories_roles import member
from tests.situations import (
    FUNDS,
    NEVER,
    TIMED_OUT,
    cancel,
    exhausted_awaits_an_instrument,
    rewrite,
    write_off,
)
from tests.together import together

pytestmark = pytest.mark.django_db
ANY = Choice(lane=LANE)
WIDE = Limit(count=100, usd=Decimal("5000.00"))
NARROW = Limit(count=1, usd=Decimal("5000.00"))
TERMS = Terms(
    ZoneInfo("UTC"), time(23, 59), every=900, limits=Limits(20, Decimal("100.00"), stopped=1e9)
)
PAGE = "/admin/checkout/bulkrequeue/dead-letters/"


@pytest.fixture
def world() -> World:
    return World()


def exhausted(world: World, price: str = "19.99", declined: Declined = FUNDS) -> Charge:
    world.gateway.answers = [declined]
    charge = world.due_charge(price=price)
    world.receive(charge)
    assert fresh(charge).state == ChargeState.EXHAUSTED
    return fresh(charge)


def look(world: World, choice: Choice = ANY) -> DryRun:
    return requeues.dry_run(choice=choice, now=world.clock.now(), ages=world.ages)


def propose(world: World, *, limit: Limit = WIDE, choice: Choice = ANY, **more: Any) -> BulkRequeue:
    with transaction.atomic():
        return requeues.propose(
            choice=choice,
            by=more.pop("by", "olga"),
            reason="the issuers answer again",
            limit=limit,
            now=world.clock.now(),
            ages=world.ages,
            **more,
        )


def approve(world: World, run: BulkRequeue, *, by: str = "aida", seen: str = "") -> BulkRequeue:
    with transaction.atomic():
        return requeues.approve(
            requeue_id=run.pk,
            seen=seen or run.sha256,
            by=by,
            reason="I looked at each",
            now=world.clock.now(),
            ages=world.ages,
        )


def carry_out(world: World, run: BulkRequeue, **more: Any) -> int:
    return requeues.carry_out(requeue_id=run.pk, clock=world.clock, ages=world.ages, **more)


def ids(plan: DryRun) -> set[Any]:
    return {each.charge_id for each in plan.taken}


# --- Choosing --------------------------------------------------------------------------------------


def test_it_chooses_by_lane_class_what_it_awaits_and_time(world: World) -> None:
    early = exhausted(world)
    world.clock.forward(seconds=3600)
    middle = world.clock.real_now()
    late = exhausted(world, "5.00")
    dead = exhausted(world, declined=NEVER)
    both = {early.pk, late.pk}

    assert ids(look(world, Choice(lane=LANE))) == both
    assert ids(look(world, Choice(lane="other"))) == set()
    assert ids(look(world, Choice(decline_class="funds"))) == both
    assert [f.charge_id for f in look(world, Choice(decline_class="never")).left] == [dead.pk]
    assert ids(look(world, Choice(awaits="date"))) == both
    assert ids(look(world, Choice(awaits="person"))) == set()
    assert ids(look(world, Choice(since=middle))) == {late.pk}
    assert ids(look(world, Choice(until=middle))) == {early.pk}


def test_a_dry_run_counts_and_changes_nothing(world: World) -> None:
    for price in ("19.99", "5.00"):
        exhausted(world, price)

    plan = look(world)

    assert (plan.count, plan.usd) == (2, Decimal("24.99"))
    assert not BulkRequeue.objects.exists()
    assert not Charge.objects.exclude(state=ChargeState.EXHAUSTED).exists()


def test_a_choice_says_something(world: World) -> None:
    with pytest.raises(NotChosen, match="choose by at least one"):
        look(world, Choice())


def test_r29_r30_r52_each_that_is_left_says_why(world: World) -> None:
    dead = exhausted_awaits_an_instrument(world)
    held = exhausted(world)
    with transaction.atomic():
        routing.place_hold(
            kind=HoldKind.HOLD,
            scope=HoldScope.CREATOR,
            subject=str(held.creator_id),
            reason="asked",
            by="olga",
            until=None,
            now=world.clock.now(),
        )
    cancelled = exhausted(world)
    rewrite(cancelled, void_requested=True)
    free = exhausted(world)

    plan = look(world)

    assert ids(plan) == {free.pk}
    assert {each.charge_id: each.left_because for each in plan.left} == {
        dead.pk: requeues.DEAD_INSTRUMENT,
        held.pk: f"held: hold creator {held.creator_id}",
        cancelled.pk: requeues.CANCELLED,
    }
    assert sum(each.count for each in plan.reasons) == 3


def test_r30_a_card_at_its_cap_is_left_until_its_window_has_passed(world: World) -> None:
    charge = exhausted(world)
    world.ages = replace(world.ages, attempts_per_instrument=1)
    (left,) = look(world).left
    assert (left.charge_id, left.left_because) == (charge.pk, requeues.CAPPED)

    world.clock.forward(seconds=world.ages.attempts_window + 1)
    assert ids(look(world)) == {charge.pk}


def test_what_is_in_doubt_is_the_resolver_s(world: World) -> None:
    world.gateway.answers = [TIMED_OUT]
    charge = world.due_charge()
    world.receive(charge)
    rewrite(charge, state=ChargeState.EXHAUSTED, awaits="person")

    (left,) = look(world).left

    assert left.left_because == requeues.IN_DOUBT


# --- Carrying out ----------------------------------------------------------------------------------


def test_each_opens_a_round_without_a_dunning_step_and_leaves_a_trace(world: World) -> None:
    charges = [exhausted(world), exhausted(world)]

    run = propose(world)
    assert carry_out(world, run) == 2
    assert carry_out(world, run) == 0

    for charge in charges:
        after = fresh(charge)
        assert (after.state, after.round, after.step) == (ChargeState.DUE, 2, charge.step)
        assert len(dispatches(charge)) == 2
        item = BulkRequeueItem.objects.select_related("requeue").get(charge=charge)
        assert (item.outcome, item.requeue.proposed_by) == (RequeueOutcome.REQUEUED, "olga")
        assert item.requeue.reason == "the issuers answer again"
    assert BulkRequeue.objects.get().finished_at is not None


def test_one_that_moved_since_is_left_with_the_reason(world: World) -> None:
    """Compare-and-set on the round: what another person did first stands."""
    gone, again, free = exhausted(world), exhausted(world), exhausted(world)
    run = propose(world)
    write_off(world, gone)
    with transaction.atomic():
        rescue.requeue(charge_id=again.pk, by="another", reason="asked for", now=world.clock.now())
    world.gateway.answers = [FUNDS]
    world.receive(again)
    assert fresh(again).state == ChargeState.EXHAUSTED

    assert carry_out(world, run) == 1

    because = dict(run.items.values_list("charge_id", "left_because"))
    assert because[gone.pk] == "it is written_off"
    assert because[again.pk] == "its round or amount is not what was chosen"
    assert because[free.pk] == ""
    assert fresh(again).round == 2


def test_killed_between_two_charges_it_goes_on_where_it_stopped(world: World) -> None:
    charges = [exhausted(world) for _ in range(3)]
    run = propose(world)

    def die(_: int) -> None:
        raise Crash

    with pytest.raises(Crash):
        carry_out(world, run, progress=die)
    assert sum(fresh(charge).round == 2 for charge in charges) == 1

    assert requeues.carry_out_all(clock=world.clock, ages=world.ages) == 2
    assert [fresh(charge).round for charge in charges] == [2, 2, 2]
    assert requeues.carry_out_all(clock=world.clock, ages=world.ages) == 0


@pytest.mark.django_db(transaction=True)
def test_two_that_carry_out_at_once_open_each_round_once(world: World) -> None:
    charges = [exhausted(world) for _ in range(6)]
    run = propose(world)

    opened = together(lambda: carry_out(world, run), lambda: carry_out(world, run))

    assert sum(n for n in opened if isinstance(n, int)) == 6
    assert [fresh(charge).round for charge in charges] == [2] * 6
    assert {len(dispatches(charge)) for charge in charges} == {2}


@pytest.mark.django_db(transaction=True)
def test_two_that_propose_at_once_do_not_take_the_same_charges(world: World) -> None:
    exhausted(world)

    results = together(lambda: propose(world), lambda: propose(world))

    assert sorted(type(each).__name__ for each in results) == ["BulkRequeue", "NotChosen"]
    assert BulkRequeueItem.objects.count() == 1


# --- The second person -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit", [NARROW, Limit(count=100, usd=Decimal("39.97"))], ids=["count", "usd"]
)
def test_r43_above_the_limit_nothing_moves_before_another_person_approves(
    world: World, limit: Limit
) -> None:
    charges = [exhausted(world), exhausted(world)]
    run = propose(world, limit=limit)

    assert run.is_waiting
    assert requeues.carry_out_all(clock=world.clock, ages=world.ages) == 0
    assert carry_out(world, run) == 0
    with pytest.raises(NotDecidable, match="who proposed it"):
        approve(world, run, by="olga")

    approve(world, run)
    assert requeues.carry_out_all(clock=world.clock, ages=world.ages) == 2
    assert [fresh(charge).round for charge in charges] == [2, 2]


def test_at_the_limit_exactly_one_person_is_enough(world: World) -> None:
    exhausted(world)
    exhausted(world)

    run = propose(world, limit=Limit(count=2, usd=Decimal("39.98")))

    assert not run.needs_approval


def test_r43_the_limit_holds_for_all_that_one_person_requeues_in_a_day(world: World) -> None:
    """Many small ones would do what one large one may not; on the command line he is the same."""
    limit = Limit(count=2, usd=Decimal("5000.00"))
    for _ in range(2):
        exhausted(world)
        assert carry_out(world, propose(world, limit=limit)) == 1
    exhausted(world)

    assert propose(world, limit=limit, by=f"{requeues.BY_COMMAND}olga").is_waiting


def test_after_a_day_the_limit_is_whole_again(world: World) -> None:
    limit = Limit(count=1, usd=Decimal("5000.00"))
    exhausted(world)
    assert carry_out(world, propose(world, limit=limit)) == 1
    world.clock.forward(days=1)
    exhausted(world)

    assert not propose(world, limit=limit).needs_approval


def test_r43_a_name_typed_at_the_command_line_is_the_same_person(world: World) -> None:
    exhausted(world)
    exhausted(world)
    run = propose(world, limit=NARROW, by="command line: aida")

    with pytest.raises(NotDecidable):
        approve(world, run, by="aida")
    with pytest.raises(IntegrityError, match="who proposes does not approve"):
        decide_by_hand(run, by="aida")


def test_what_it_would_do_has_changed_and_so_it_is_not_approved(world: World) -> None:
    gone, _ = exhausted(world), exhausted(world)
    run = propose(world, limit=NARROW)
    cancel(world, gone)

    with pytest.raises(NotDecidable, match="has changed: withdraw it"):
        approve(world, run)

    with transaction.atomic():
        requeues.withdraw(requeue_id=run.pk, by="olga", reason="anew", now=world.clock.now())
    anew = propose(world)
    assert anew.count == 1


def test_the_page_must_have_shown_exactly_that(world: World) -> None:
    exhausted(world)
    exhausted(world)
    run = propose(world, limit=NARROW)

    with pytest.raises(NotDecidable, match="showed something else"):
        approve(world, run, seen="0" * 64)
    exhausted(world)
    with pytest.raises(NotChosen, match="has changed since it was shown"):
        propose(world, seen="0" * 64)


def test_finance_is_told_that_one_waits(world: World) -> None:
    exhausted(world)
    exhausted(world)
    assert approvals(now=world.clock.now(), terms=TERMS) is None
    run = propose(world, limit=NARROW)

    told = approvals(now=world.clock.now(), terms=TERMS)

    assert told is not None
    assert told.subjects == [f"requeue:{run.pk}"]
    assert f"bulk requeue {run.pk}: 2 charges, 39.98 USD" in str(told.lines)


def test_the_timeline_of_a_charge_says_who_requeued_it_and_why(world: World) -> None:
    charge = exhausted(world)
    run = propose(world)
    carry_out(world, run)

    page = member(VIEWER).get(f"/admin/checkout/charge/{charge.pk}/proof/").content.decode()

    assert f"bulk requeue {run.pk} of olga (the issuers answer again): requeued" in page


def decide_by_hand(run: BulkRequeue, *, by: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE checkout_bulkrequeue SET decision = 'approved', decided_by = %s,"
            " decided_at = now(), decided_because = 'by hand' WHERE id = %s",
            [by, run.pk],
        )


def by_hand(sql: str, *values: int) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, values)


def test_r43_the_database_wants_two_people_whoever_asks(world: World) -> None:
    first, _ = exhausted(world), exhausted(world)
    run = propose(world, limit=NARROW)
    item = run.items.order_by("pk")[0]
    done = "UPDATE checkout_bulkrequeueitem SET outcome = 'requeued', done_at = now() WHERE id = %s"

    with pytest.raises(IntegrityError, match="another person has not approved"):
        by_hand(done, item.pk)
    with pytest.raises(IntegrityError, match="bulk_requeue_four_eyes"):
        decide_by_hand(run, by="olga")
    with pytest.raises(IntegrityError, match="never changes"):
        by_hand("UPDATE checkout_bulkrequeue SET needs_approval = false WHERE id = %s", run.pk)
    with pytest.raises(IntegrityError, match="its charges stay"):
        by_hand("DELETE FROM checkout_bulkrequeueitem WHERE id = %s", item.pk)
    with pytest.raises(IntegrityError, match="never deleted"):
        by_hand("DELETE FROM checkout_bulkrequeue WHERE id = %s", run.pk)
    decide_by_hand(run, by="aida")
    with pytest.raises(IntegrityError, match="never changes"):
        by_hand(
            "UPDATE checkout_bulkrequeue SET decision = '', decided_by = '' WHERE id = %s", run.pk
        )
    by_hand(done, item.pk)
    with pytest.raises(IntegrityError, match="what became of a charge never changes"):
        by_hand(done, item.pk)
    assert fresh(first).round == 1


def test_r43_the_database_knows_the_limit(world: World) -> None:
    exhausted(world)
    exhausted(world)
    run = propose(world)
    copy = "INSERT INTO checkout_bulkrequeue ({}) SELECT {} FROM checkout_bulkrequeue WHERE id = %s"
    columns = [str(f.column) for f in BulkRequeue._meta.fields if f.column != "id"]
    values = ["1" if name == "limit_count" else name for name in columns]

    with pytest.raises(IntegrityError, match="bulk_requeue_limit"):
        by_hand(copy.format(", ".join(columns), ", ".join(values)), run.pk)
    other = exhausted(world)
    with pytest.raises(IntegrityError, match="more charges than were counted"):
        BulkRequeueItem.objects.create(
            requeue=run, charge=other, round=other.round, amount=other.amount
        )


# --- The command -----------------------------------------------------------------------------------


def run_command(*words: str) -> tuple[int, str]:
    text = io.StringIO()
    try:
        call_command("requeue", *words, stdout=text)
    except SystemExit as ended:
        return int(str(ended.code)), text.getvalue()
    return 0, text.getvalue()


def test_the_command_shows_then_does_and_ends_with_0(world: World) -> None:
    charge = exhausted(world)

    code, said = run_command("--lane", LANE, "--dry-run")
    assert (code, fresh(charge).round) == (0, 1)
    assert "would requeue 1 charge of 19.99 USD; nothing was changed" in said

    code, said = run_command("--lane", LANE, "--class", "funds", "--reason", "ticket 881", "--json")
    assert (code, fresh(charge).round) == (0, 2)
    assert json.loads(said)["requeued"] == 1


def test_the_command_ends_with_1_and_the_proposal_above_the_limit(world: World) -> None:
    charge = exhausted(world)

    with override_settings(REQUEUE_LIMIT={"count": 0, "usd": Decimal("5000.00")}):
        code, said = run_command("--awaits", "date", "--reason", "ticket 881")

    run = BulkRequeue.objects.get()
    assert (code, fresh(charge).round) == (1, 1)
    assert said.startswith(f"bulk requeue {run.pk}: 1 charge of 19.99 USD wait for another")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--reason", "ticket 881"], "choose by at least one"),
        (["--lane", LANE], "say why, in 5 to 300 characters"),
        (["--lane", LANE, "--reason", "ticket 881"], "none of the charges found"),
    ],
)
def test_the_command_ends_with_2_and_says_what_to_do(words: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told) as refused:
        run_command(*words)
    assert refused.value.returncode == 2


# --- The page --------------------------------------------------------------------------------------


def test_an_operator_looks_then_requeues_on_the_page(world: World) -> None:
    charge = exhausted(world)
    client = member(OPERATOR)

    page = client.get(PAGE, {"look": "yes", "lane": LANE})
    assert b"Requeue 1, 19.99 USD" in page.content
    seen = look(world).sha256
    asked = {"look": "yes", "lane": LANE, "seen": seen}
    assert b"This field is required" in client.post(PAGE, asked).content
    stale = client.post(PAGE, asked | {"seen": "0" * 64, "reason": "ticket 881"})
    assert b"look at it again" in stale.content

    client.post(PAGE, asked | {"reason": "ticket 881"})

    run = BulkRequeue.objects.get()
    assert run.proposed_by == OPERATOR
    requeues.carry_out_all(clock=world.clock, ages=world.ages)
    assert fresh(charge).round == 2


def test_only_an_approver_approves_and_a_viewer_only_looks(world: World) -> None:
    exhausted(world)
    exhausted(world)
    run = propose(world, limit=NARROW)
    address = f"/admin/checkout/bulkrequeue/{run.pk}/"
    decided = {"decision": "approve", "seen": run.sha256, "reason": "I looked at each"}

    page = member(VIEWER).get(PAGE, {"look": "yes", "lane": LANE})
    assert b"Requeue 1" not in page.content
    assert member(VIEWER).post(PAGE, {"look": "yes"}).status_code == 403
    for role in (VIEWER, OPERATOR):
        assert member(role).post(f"{address}decide/", decided).status_code == 403
        assert b"Approve these" not in member(role).get(f"{address}change/").content

    approver = member(APPROVER)
    assert b"Approve these 2, 39.98 USD" in approver.get(f"{address}change/").content
    approver.post(f"{address}decide/", decided)

    run.refresh_from_db()
    assert (run.decision, run.decided_by) == ("approved", APPROVER)
