"""How often a request, a receive or a job asks the database: 500 ms on the link cost so many half seconds (F20).

The figures are those of today. One that grows is a reason to look, not to raise the figure; BEGIN, COMMIT and
savepoints count, since each is a round trip.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checkout import billing, rescue, wiring
from checkout.clock import Clock
from checkout.gateways import DeclineClass, Declined
from checkout.models import Charge, ChargeState, Creator, Subscription
from checkout.outcomes import Fate
from devstack.proxy import Proxy
from tests.factories import World, fresh
from tests.platforms import NEW_CREATOR, Platform, ready_platform, register, send_webhook

pytestmark = pytest.mark.django_db(transaction=True)


def round_trips(work: Callable[[], object]) -> int:
    connection.ensure_connection()
    with CaptureQueriesContext(connection) as asked:
        work()
    return len(asked)


@pytest.fixture
def platform() -> Platform:
    return ready_platform()


@dataclass(frozen=True)
class Shop:
    """A platform with a creator who started one checkout."""

    platform: Platform
    creator: Creator
    checkout: str


@pytest.fixture
def shop(platform: Platform) -> Shop:
    creator = register(platform)
    platform.start(of=creator)
    return Shop(platform, creator, str(Subscription.objects.get().pk))


WEBHOOK = {"id": "evt_1", "type": "charge.updated"}
# What is asked, how it is answered, and in how many round trips.
REQUESTS: dict[str, tuple[Callable[[Shop], Any], int, int]] = {
    "register": (lambda at: at.platform.post("/v1/creators", NEW_CREATOR, key="k"), 201, 14),
    "start a checkout": (lambda at: at.platform.start(of=at.creator, key="new"), 201, 21),
    "repeat it": (lambda at: at.platform.start(of=at.creator), 201, 7),
    "read a checkout": (lambda at: at.platform.get(f"/v1/checkouts/{at.checkout}"), 200, 3),
    "list charges": (lambda at: at.platform.get("/v1/charges"), 200, 2),
    "a webhook": (lambda at: send_webhook(at.platform, WEBHOOK), 202, 6),
    "are you alive": (lambda at: at.platform.get("/livez"), 200, 0),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_f20_a_request_asks_the_database_so_often(shop: Shop, name: str) -> None:
    ask, status, most = REQUESTS[name]
    answers: list[Any] = []

    count = round_trips(lambda: answers.append(ask(shop)))

    assert answers[0].status_code == status
    assert count <= most


def test_f20_a_list_costs_as_much_for_many_as_for_one(platform: Platform) -> None:
    creator = register(platform)
    platform.start(of=creator)
    one = round_trips(lambda: platform.get("/v1/charges"))
    for number in range(5):
        platform.start(of=creator, key=f"order-{number}")

    assert round_trips(lambda: platform.get("/v1/charges")) == one


@pytest.fixture
def world() -> World:
    return World()


def test_f20_a_receive_asks_the_database_so_often(world: World) -> None:
    """One of them is the test's own, which reads the charge's present dispatch."""
    captured, declined = world.due_charge(), world.due_charge(token="tok_decline_funds")

    of_a_capture = round_trips(lambda: world.receive(captured))
    of_its_repetition = round_trips(lambda: world.receive(captured, count=2))
    world.gateway.answers = [Declined(DeclineClass.FUNDS, "insufficient_funds")]
    of_a_decline = round_trips(lambda: world.receive(declined))

    assert fresh(captured).state == ChargeState.SUCCEEDED
    assert of_a_capture <= 29
    assert of_its_repetition <= 7
    assert of_a_decline <= 29


JOBS: dict[str, Callable[..., object]] = {
    "bill_due": billing.bill_due,
    "sweep": rescue.sweep,
    "open_next_rounds": rescue.open_next_rounds,
}


@pytest.mark.parametrize(
    ("name", "most"), [("bill_due", 20), ("sweep", 4), ("open_next_rounds", 4)]
)
def test_f20_a_job_with_nothing_to_do_asks_little(world: World, name: str, most: int) -> None:
    world.due_charge()

    assert round_trips(partial(JOBS[name], clock=world.clock, ages=world.ages)) <= most


def test_f20_a_bill_run_costs_as_much_for_many_as_for_one(world: World) -> None:
    """Set-based: the round trips of a batch do not grow with it."""
    world.due_charge()
    world.clock.forward(days=31)
    of_one = round_trips(lambda: billing.bill_due(clock=world.clock, ages=world.ages))
    for _ in range(5):
        world.due_charge()
    world.clock.forward(days=31)

    of_six = round_trips(lambda: billing.bill_due(clock=world.clock, ages=world.ages))

    assert Charge.objects.count() == 13
    assert of_six == of_one


@pytest.fixture
def slow_link() -> Iterator[Proxy]:
    facts = connection.settings_dict
    place = facts["HOST"], facts["PORT"]
    with Proxy(upstream=(str(place[0]), int(place[1]))) as link:
        connection.close()
        facts["HOST"], facts["PORT"] = "127.0.0.1", str(link.port)
        yield link
        facts["HOST"], facts["PORT"] = place
        connection.close()


def test_f20_a_slow_link_makes_a_checkout_late_not_refused_nor_doubled(
    monkeypatch: pytest.MonkeyPatch, platform: Platform, slow_link: Proxy
) -> None:
    """Slow is not silent: a deadline of a second is for a database that is away, and this takes longer."""
    ages = wiring.ages()
    monkeypatch.setattr(settings, "AGES", type(ages)(**{**vars(ages), "request_deadline": 1.0}))
    creator = register(platform)
    platform.get("/v1/charges")
    slow_link.latency = 0.07
    begun = Clock().monotonic()

    response = platform.start(of=creator)

    took = Clock().monotonic() - begun
    slow_link.latency = 0.0
    assert response.status_code == 201
    assert took > 1.0
    assert Charge.objects.count() == 1
    assert platform.start(of=creator)["Idempotent-Replayed"] == "true"


def test_f20_a_slow_link_makes_a_receive_late_and_captures_once(
    world: World, slow_link: Proxy
) -> None:
    charge = world.due_charge()
    slow_link.latency = 0.05

    fate = world.receive(charge)

    slow_link.latency = 0.0
    assert fate == Fate.ACKNOWLEDGE
    assert len(world.gateway.sent) == 1
