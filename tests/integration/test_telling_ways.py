"""How notices leave: real mail and a real webhook on loopback, and what happens when they do not listen."""

import hashlib
import hmac
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import connection

from checkout.failpoints import Crash
from settlements import reconciliation, telling
from settlements.drafts import Terms
from settlements.management import jobs
from settlements.models import Notice, NoticeDelivery
from settlements.paging import Limits
from settlements.telling import Message, Way
from settlements.ways import Mail, Webhook
from tests.factories import World
from tests.listeners import Chat, PostOffice, chat, post_office
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db

SECRET = "shared-with-the-chat"
# The morning's digest is the one notice of an empty world in which nothing ever pages.
TERMS = Terms(
    ZoneInfo("UTC"), time(7, 30), every=900, limits=Limits(20, Decimal("100.00"), stopped=1e9)
)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ear() -> Iterator[Chat]:
    with chat() as listening:
        yield listening


@pytest.fixture
def office(settings: Any) -> Iterator[PostOffice]:
    """Django's own SMTP backend, which pytest-django replaces, and a real server behind it."""
    with post_office() as opened:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", opened.port
        settings.EMAIL_USE_TLS, settings.EMAIL_TIMEOUT = False, 5
        yield opened


def noted(world: World) -> Notice:
    """One notice that waits, made as the timetable makes it; a pass has just compared nothing."""
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    telling.note(clock=world.clock, ages=world.ages, terms=TERMS)
    return Notice.objects.get()


def told(world: World, *ways: Way) -> str:
    return str(telling.tell(clock=world.clock, ages=world.ages, ways=ways))


def webhook(ear: Chat, **facts: Any) -> Webhook:
    return Webhook(url=ear.url, secret=SECRET, **facts)


def mail() -> Mail:
    return Mail(to=["finance@example.org", "cfo@example.org"], sender="Pay <pay@example.org>")


def delivery(way: str = "webhook") -> NoticeDelivery:
    return NoticeDelivery.objects.get(way=way)


@dataclass
class Dying:
    """A way whose process dies right after the send: nobody marks it."""

    way: Way
    name: str = "webhook"

    def tell(self, message: Message, *, at: datetime) -> None:
        self.way.tell(message, at=at)
        raise Crash


@dataclass
class Watching:
    """A way that looks whether a transaction is open while its network would be waited for."""

    name: str = "webhook"
    open: list[bool] = field(default_factory=list)

    def tell(self, message: Message, *, at: datetime) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
            )
            self.open.append(bool(cursor.fetchone()[0]))
        connection.close()


# --- The webhook -------------------------------------------------------------------------------------


def test_a_webhook_hears_a_notice_signed_and_once(world: World, ear: Chat) -> None:
    notice = noted(world)

    assert told(world, webhook(ear)) == "1 told"
    world.clock.forward(days=1)
    assert told(world, webhook(ear)) == "0 told"

    (heard,) = ear.heard
    assert heard["text"] == f"{notice.title}\n{notice.text}"
    assert (heard["id"], heard["kind"]) == (str(notice.pk), "digest")
    assert heard["figures"]["absolute"] == "0.00"
    assert ear.keys == [str(notice.pk)]
    at, given = ear.headers[0]["checkout-signature"].removeprefix("t=").split(",v1=")
    assert int(at) == int(notice.noticed_at.timestamp())
    signed = hmac.new(SECRET.encode(), f"{at}.".encode() + ear.bodies[0], hashlib.sha256)
    assert given == signed.hexdigest()


def test_who_dies_between_the_send_and_its_mark_sends_again_with_the_same_id(
    world: World, ear: Chat
) -> None:
    """At least once: the second hearing carries the first one's id."""
    notice = noted(world)

    with pytest.raises(Crash):
        told(world, Dying(webhook(ear)))
    at_once = told(world, webhook(ear))
    world.clock.forward(seconds=61)
    later = told(world, webhook(ear))

    assert (at_once, later) == ("0 told", "1 told")
    assert ear.keys == [str(notice.pk)] * 2
    assert ear.bodies[0] == ear.bodies[1]
    assert (delivery().tries, delivery().told_at) == (2, world.clock.real_now())


def test_what_is_refused_is_tried_again_with_growing_waits(world: World, ear: Chat) -> None:
    noted(world)
    ear.answers = [500, 503, 429, 302]
    waits = [60, 120, 240, 480]

    for status, wait in zip(list(ear.answers), waits, strict=True):
        assert told(world, webhook(ear)) == f"0 told; webhook: HTTP {status}"
        world.clock.forward(seconds=wait - 1)
        assert told(world, webhook(ear)) == "0 told"
        world.clock.forward(seconds=1)

    assert told(world, webhook(ear)) == "1 told"
    assert len(set(ear.keys)) == 1
    assert (delivery().tries, delivery().why) == (5, "")
    assert [telling.wait_after(tries) for tries in (6, 7, 100)] == [1920, 3600, 3600]


def test_a_chat_that_does_not_answer_is_given_up_in_time(world: World, ear: Chat) -> None:
    noted(world)
    ear.waits = 2.0

    said = told(world, webhook(ear, seconds=0.1))

    assert said == "0 told; webhook: ReadTimeout"
    assert delivery().why == "ReadTimeout"


def test_a_chat_that_drips_its_answer_is_given_up_as_a_whole(world: World, ear: Chat) -> None:
    """No step of the call takes long, and the call never ends; the mail behind it still leaves."""
    noted(world)
    ear.waits = 3.0

    told = telling.tell(
        clock=world.clock, ages=world.ages, ways=[webhook(ear, seconds=30)], send_within=0.2
    )

    assert str(told) == "0 told; webhook: no end within 0.2 s"
    assert delivery().told_at is None
    assert telling.SEND_SECONDS < telling.FIRST_WAIT


def test_a_way_that_fails_holds_back_no_other(world: World, ear: Chat, office: PostOffice) -> None:
    noted(world)
    office.refuses = "451 try again later"

    said = told(world, mail(), webhook(ear))

    assert said == "1 told; mail: SMTPDataError 451"
    assert len(ear.bodies) == 1


def test_neither_log_nor_database_holds_an_address_or_a_secret(
    world: World, caplog: pytest.LogCaptureFixture, office: PostOffice
) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    noted(world)
    office.refuses = "550 finance@example.org: no such mailbox"
    away = Webhook(url=f"http://127.0.0.1:{port}/hook/T0SECRET", secret=SECRET)

    said = told(world, mail(), away)

    assert said == "0 told; mail: SMTPDataError 550; webhook: ConnectError"
    ours = [r for r in caplog.records if r.name.startswith(("settlements", "checkout"))]
    kept = said + repr(away) + "".join(NoticeDelivery.objects.values_list("why", flat=True))
    for text in (kept, *(str(vars(record)) for record in ours)):
        assert not any(word in text for word in ("T0SECRET", SECRET, "finance@", "/hook/"))


def test_an_address_that_is_none_is_a_failed_try_and_not_quoted(world: World) -> None:
    noted(world)

    said = told(world, Webhook(url="https://T0SECRET:port/", secret=SECRET))

    assert said == "0 told; webhook: InvalidURL"


# --- Mail --------------------------------------------------------------------------------------------


def test_mail_goes_to_everybody_with_the_notice_s_id(world: World, office: PostOffice) -> None:
    notice = noted(world)

    assert told(world, mail()) == "1 told"
    assert told(world, mail()) == "0 told"

    (letter,) = office.letters
    assert office.to == [["finance@example.org", "cfo@example.org"]]
    assert " ".join(letter["Subject"].split()) == notice.title
    assert letter["Message-ID"] == f"<{notice.pk}@example.org>"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter.get_payload(decode=True).decode().split() == notice.text.split()  # type: ignore[union-attr]


def test_refused_mail_is_sent_again_as_the_same_message(world: World, office: PostOffice) -> None:
    noted(world)
    office.refuses = "451 try again later"
    first = told(world, mail())
    office.refuses = ""
    world.clock.forward(seconds=60)

    assert first == "0 told; mail: SMTPDataError 451"
    assert told(world, mail()) == "1 told"
    assert delivery("mail").tries == 2


# --- Two processes, and no transaction ---------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_tell_at_once_are_heard_once(ear: Chat) -> None:
    world = World()
    noted(world)
    barrier, said = threading.Barrier(2), []

    def tell() -> None:
        barrier.wait(20)
        said.append(told(world, webhook(ear)))
        connection.close()

    threads = [threading.Thread(target=tell) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(said) == ["0 told", "1 told"]
    assert len(ear.bodies) == 1


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_a_way_is_waited_for() -> None:
    world = World()
    noted(world)
    way = Watching()

    told(world, way)

    assert way.open == [False]


def test_the_job_tells_by_the_ways_that_are_set(
    world: World, ear: Chat, office: PostOffice, settings: Any
) -> None:
    settings.FINANCE_MAIL_TO = ["finance@example.org"]
    settings.FINANCE_WEBHOOK_URL, settings.FINANCE_WEBHOOK_SECRET = ear.url, SECRET
    settings.FINANCE_PAGES_URL = "https://pay.example"

    said = jobs.tell_finance(clock=world.clock, ages=world.ages)

    # An empty world has a digest, and a comparison that never ran.
    assert said == "2 noted, 4 told"
    assert {UUID(key) for key in ear.keys} == set(Notice.objects.values_list("pk", flat=True))
    wait_for(lambda: len(office.letters) == 2, 5, "both letters")
    assert "https://pay.example/admin/" in ear.heard[0]["text"]
