"""/metrics, /livez and /readyz: exact names, figures read at scrape, honest when the database is away."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from botocore.exceptions import EndpointConnectionError
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checkout import metrics, routing
from checkout.clock import Clock
from checkout.exporter import QueueDepth
from checkout.gateways import DeclineClass, Declined, InDoubt
from checkout.models import ChargeState, Heartbeat, HoldKind, HoldScope, RetryCounter
from checkout.queue import Waiting
from devstack.sqs import Sqs
from tests.factories import LANE, World, fresh
from tests.fakes import FakeGateway
from tests.queues import dispatch, new_queue

SOFT = Declined(decline_class=DeclineClass.ISSUER_SOFT, code="do_not_honor")


def figures() -> dict[str, float]:
    answer = Client().get("/metrics")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    lines = [line for line in answer.content.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.mark.django_db
def test_r56_the_retry_count_is_there_as_zero_from_the_start() -> None:
    assert RetryCounter.objects.count() == 0

    text = Client().get("/metrics").content.decode()

    assert 'checkout_service_retry_count{queue="fifo"} 0.0' in text.splitlines()
    assert "checkout_service_retry_count_total" not in text


@pytest.mark.django_db
def test_r56_the_retry_count_counts_attempts_above_one_and_never_falls() -> None:
    world = World(gateway=FakeGateway(answers=[SOFT, SOFT]))
    charge = world.due_charge()
    seen = [figures()['checkout_service_retry_count{queue="fifo"}']]

    for count in (1, 2, 3):
        world.clock.forward(seconds=400)
        world.receive(charge, count=count)
        seen.append(figures()['checkout_service_retry_count{queue="fifo"}'])

    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert seen == [0, 0, 1, 2]


@pytest.mark.django_db
def test_every_name_is_exported_under_exactly_that_name() -> None:
    """Dashboards and alerts are written against these names; a Counter would append _total."""
    Heartbeat.objects.create(name="worker", beat_at=Clock().real_now())
    text = Client().get("/metrics").content.decode()
    types = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}

    assert types == {value for name, value in vars(metrics).items() if name.isupper()}


@pytest.mark.django_db
def test_r56_a_scrape_counts_no_table() -> None:
    with CaptureQueriesContext(connection) as captured:
        figures()

    counting = [q["sql"] for q in captured.captured_queries if "COUNT(" in q["sql"].upper()]
    retry = [q["sql"] for q in captured.captured_queries if "checkout_retrycounter" in q["sql"]]
    assert [sql for sql in retry if "SUM(" in sql] == retry
    for sql in counting:
        # What is open, or a LIMIT along an index, or the last minutes: never the history.
        assert re.search(r"in_doubt|= 'asked'|IS NULL|LIMIT|started_at >|NOT .*arrived", sql), sql


@pytest.mark.django_db
def test_charges_in_doubt_and_their_usd_are_shown() -> None:
    world = World(gateway=FakeGateway(answers=[InDoubt(reason="timed out")]))
    world.receive(world.due_charge(price="199.00"))

    shown = figures()

    assert shown["checkout_charges_in_doubt"] == 1
    assert shown["checkout_charges_in_doubt_usd"] == 199


@pytest.mark.django_db
def test_the_outbox_and_the_oldest_owed_charge_age() -> None:
    world = World()
    world.due_charge()

    shown = figures()

    assert shown['checkout_outbox_depth{door="sqs"}'] == 1
    assert shown['checkout_outbox_depth{door="kafka"}'] >= 2
    assert shown['checkout_outbox_oldest_age_seconds{door="sqs"}'] > 0
    assert shown["checkout_oldest_owed_without_attempt_seconds"] > 0


@pytest.mark.django_db
def test_a_charge_that_was_tried_is_not_the_oldest_owed() -> None:
    world = World()
    world.receive(world.due_charge())

    assert figures()["checkout_oldest_owed_without_attempt_seconds"] == 0


@pytest.mark.django_db
def test_the_workers_last_poll_is_the_freshest_workers() -> None:
    assert "checkout_worker_last_poll_age_seconds" not in figures()
    now = Clock().now().real
    Heartbeat.objects.create(name="worker", beat_at=now)

    shown = figures()

    assert shown["checkout_worker_last_poll_age_seconds"] < 10
    assert 'checkout_heartbeat_age_seconds{name="worker"}' in shown


@pytest.mark.django_db
def test_a_paused_lane_shows_and_a_hold_on_all_pauses_every_lane() -> None:
    clock = Clock()
    assert figures()[f'checkout_lane_paused{{lane="{LANE}"}}'] == 0
    hold = routing.place_hold(
        kind=HoldKind.PAUSE,
        scope=HoldScope.LANE,
        subject=LANE,
        reason="maintenance",
        by="test",
        until=None,
        now=clock.now(),
    )
    shown = figures()
    paused = {name for name, value in shown.items() if name.startswith("checkout_lane") and value}

    assert paused == {f'checkout_lane_paused{{lane="{LANE}"}}'}

    routing.lift_hold(hold_id=hold.pk, by="test", now=clock.now())
    routing.place_hold(
        kind=HoldKind.HOLD,
        scope=HoldScope.ALL,
        subject="",
        reason="look",
        by="test",
        until=None,
        now=clock.now(),
    )
    shown = figures()
    assert all(shown[f'checkout_lane_paused{{lane="{lane}"}}'] for lane in settings.LANES)


@pytest.mark.django_db
def test_discrepancies_and_late_statements_are_there_as_zero() -> None:
    shown = figures()

    assert shown['checkout_discrepancies_open{kind="captured"}'] == 0
    assert shown['checkout_discrepancies_open_usd{kind="statement"}'] == 0
    assert shown['checkout_statement_days{state="late"}'] == 0


@pytest.fixture
def database_away() -> Iterator[None]:
    """The address of PostgreSQL, with nobody listening."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        yield from at_port(unused.getsockname()[1])


@pytest.fixture
def database_silent() -> Iterator[None]:
    """A black hole: it takes the connection and never says a word."""
    with closing(socket.socket()) as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(50)
        yield from at_port(hole.getsockname()[1])


def at_port(port: int) -> Iterator[None]:
    place = connection.settings_dict
    connection.close()
    before = place["HOST"], place["PORT"]
    place["HOST"], place["PORT"] = "127.0.0.1", str(port)
    yield
    connection.close()
    place["HOST"], place["PORT"] = before


@pytest.mark.django_db(transaction=True)
def test_metrics_without_a_database_say_so_and_claim_no_zero(database_away: None) -> None:
    known = {name: value for name, value in figures().items() if "queue" not in name}

    assert known == {"checkout_database_up": 0.0}


# --- The queue's own count ---------------------------------------------------------------------------


def depth_of(collector: QueueDepth) -> dict[str, float]:
    return {
        sample.name: sample.value for metric in collector.collect() for sample in metric.samples
    }


@pytest.mark.django_db
def test_the_depth_of_queue_and_dead_letters_is_what_sqs_counts(sqs: Sqs | None) -> None:
    queue = new_queue()
    queue.send([dispatch("waiting", 1), dispatch("waiting", 2), dispatch("taken", 1)])
    queue.client.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=1)
    queue.client.send_message(
        QueueUrl=queue.dead_letter_url,
        MessageBody="dead",
        MessageGroupId="dead",
        MessageDeduplicationId="dead",
    )

    assert depth_of(QueueDepth(queue.waiting)) == {
        metrics.QUEUE_UP: 1,
        metrics.QUEUE_VISIBLE: 2,
        metrics.QUEUE_IN_FLIGHT: 1,
        metrics.DEAD_LETTER_QUEUE: 1,
    }


def test_a_queue_that_is_away_is_said_to_be_and_claims_no_zero() -> None:
    def away() -> Waiting:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    assert depth_of(QueueDepth(away)) == {metrics.QUEUE_UP: 0}


def test_a_silent_queue_keeps_a_scrape_for_a_second_and_shows_again_when_it_answers() -> None:
    """A black hole: the thread that asks may wait, a scrape may not."""
    answers = threading.Event()

    def slow() -> Waiting:
        answers.wait(60)
        return Waiting(visible=7, in_flight=0, dead=0)

    collector, begun = QueueDepth(slow), time.monotonic()
    silent = depth_of(collector)
    waited = time.monotonic() - begun
    answers.set()

    assert silent == {metrics.QUEUE_UP: 0}
    assert waited < 2.0
    assert depth_of(collector)[metrics.QUEUE_VISIBLE] == 7


def test_sqs_is_asked_once_for_many_scrapes() -> None:
    asked = []

    def count() -> Waiting:
        asked.append(1)
        return Waiting(visible=0, in_flight=0, dead=0)

    collector = QueueDepth(count)
    for _ in range(20):
        depth_of(collector)

    assert len(asked) == 1


@pytest.mark.django_db(transaction=True)
def test_readyz_is_ready_while_the_database_answers() -> None:
    assert Client().get("/readyz").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_readyz_refuses_within_its_limit_when_the_database_is_gone(database_away: None) -> None:
    answer = Client().get("/readyz")

    assert answer.status_code == 503
    assert answer["Retry-After"]


@pytest.mark.django_db(transaction=True)
def test_readyz_refuses_within_its_limit_when_the_database_is_silent(
    database_silent: None,
) -> None:
    begun = time.monotonic()
    answer = Client().get("/readyz")

    assert answer.status_code == 503
    assert time.monotonic() - begun < 2.0


@pytest.mark.django_db(transaction=True)
def test_the_admin_says_503_while_the_database_is_away(
    admin_client: Client, database_away: None
) -> None:
    admin_client.raise_request_exception = False

    for page in ("/admin/", "/admin/checkout/charge/"):
        answer = admin_client.get(page)
        assert answer.status_code == 503
        assert answer["Retry-After"]
        assert "The database is away" in answer.content.decode()


def test_livez_asks_no_database() -> None:
    assert Client().get("/livez").status_code == 200
