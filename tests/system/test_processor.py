"""The sandbox processor as a process: what it answered is never lost, and no key is charged twice."""

import http.server
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid5

import httpx
import pytest

from checkout.gateways import (
    Approved,
    ChargeRequest,
    DeclineClass,
    Declined,
    Expired,
    InDoubt,
    NotFound,
    NotSent,
    Outcome,
    Pending,
    WebhookHint,
)
from tests.processor_process import ProcessorProcess
from tests.waiting import wait_for

pytestmark = pytest.mark.system

NAMES = UUID("00000000-0000-0000-0000-00000000f00d")
CREATOR = UUID(int=77)


def request(name: str, token: str = "tok_approve") -> ChargeRequest:
    return ChargeRequest(
        reference=uuid5(NAMES, name),
        amount=Decimal("19.99"),
        currency="USD",
        token=token,
        creator=CREATOR,
        subscription=UUID(int=2),
        charge=uuid5(NAMES, f"charge {name}"),
        round=1,
        number=1,
    )


@dataclass
class Inbox:
    """Where webhooks arrive; the first `refuse` of them are answered 500."""

    url: str = ""
    refuse: int = 0
    arrived: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    box = Inbox()

    class Door(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            box.arrived.append((raw, dict(self.headers.items())))
            self.send_response(500 if len(box.arrived) <= box.refuse else 204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    box.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield box
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def clock_file(tmp_path: Path) -> Path:
    path = tmp_path / "clock"
    path.write_text("0")
    return path


@pytest.fixture
def processor(tmp_path: Path, clock_file: Path, inbox: Inbox) -> Iterator[ProcessorProcess]:
    running = ProcessorProcess(tmp_path / "processor", clock_file=clock_file, webhook_url=inbox.url)
    running.start()
    yield running
    running.kill()


def test_a_killed_processor_comes_back_with_everything_it_answered(
    processor: ProcessorProcess,
) -> None:
    """I2, F10: SIGKILL at any point of twenty charges loses no answer and doubles no capture."""
    lane = processor.gateway()
    processor.control(short={"creator": str(CREATOR), "by": "0.03"})
    answered: dict[UUID, Outcome] = {}
    for round_of_kills in range(3):
        with ThreadPoolExecutor(8) as pool:
            requests = [request(f"{round_of_kills}-{n}") for n in range(40)]
            sending = [pool.submit(lane.charge, one, deadline=10) for one in requests]
            futures.wait(sending, timeout=10, return_when=futures.FIRST_COMPLETED)
            processor.kill()
            for one, sent in zip(requests, sending, strict=True):
                answered[one.reference] = sent.result()
        processor.start()

    captured = {line["reference"]: line["captured_amount"] for line in processor.captures()}
    assert len(captured) == len(processor.captures())
    for reference, outcome in answered.items():
        match outcome:
            case Approved():
                assert lane.query(reference, deadline=10) == outcome
                assert captured[str(reference)] == str(outcome.amount)
            case NotSent():
                assert str(reference) not in captured
            case _:
                assert isinstance(outcome, InDoubt)
    assert [amount for amount in captured.values() if amount != "19.99"] == ["19.96"]
    assert any(isinstance(outcome, Approved) for outcome in answered.values())
    assert any(not isinstance(outcome, Approved) for outcome in answered.values())


def test_twenty_posts_of_one_key_at_once_capture_once(processor: ProcessorProcess) -> None:
    """R23, R25: while the first is being decided the others are in doubt, and never a decline."""
    lane = processor.gateway()
    together = threading.Barrier(20)

    def send() -> Outcome:
        together.wait()
        return lane.charge(request("same", "tok_slow_1s"), deadline=10)

    with ThreadPoolExecutor(20) as pool:
        outcomes = [sent.result() for sent in [pool.submit(send) for _ in range(20)]]

    approved = [outcome for outcome in outcomes if isinstance(outcome, Approved)]
    assert len(processor.captures()) == 1
    assert approved
    assert len(set(approved)) == 1
    assert {o for o in outcomes if not isinstance(o, Approved)} <= {InDoubt("409 key_in_use")}
    assert lane.charge(request("same", "tok_slow_1s"), deadline=10) == approved[0]
    assert len(processor.captures()) == 1


@pytest.mark.parametrize(
    "token", ["tok_timeout_after_charge", "tok_500_after_charge", "tok_garbled"]
)
def test_charged_without_a_proper_answer_is_doubt_and_the_query_finds_it(
    processor: ProcessorProcess, token: str
) -> None:
    """F9, R20, R21"""
    lane = processor.gateway()

    begun = time.monotonic()
    outcome = lane.charge(request("doubt", token), deadline=0.5)
    took = time.monotonic() - begun
    found = lane.query(request("doubt").reference, deadline=10)

    assert isinstance(outcome, InDoubt)
    assert took < 2
    assert isinstance(found, Approved)
    assert lane.charge(request("doubt", token), deadline=10) == found
    assert len(processor.captures()) == 1
    assert isinstance(lane.charge(request("later", token), deadline=10), Approved)


def test_more_silences_than_threads_do_not_stop_the_processor(processor: ProcessorProcess) -> None:
    """A silence ends when the asker leaves, so that doubts cannot pile up into an outage."""
    lane = processor.gateway()
    silences = [request(f"{n}", f"tok_timeout_after_charge_{n}x") for n in range(40)]

    with ThreadPoolExecutor(40) as pool:
        outcomes = list(pool.map(lambda one: lane.charge(one, deadline=1.5), silences))

    assert {type(outcome) for outcome in outcomes} == {InDoubt}
    assert isinstance(lane.charge(request("after"), deadline=3), Approved)


def test_a_silence_ends_by_itself(processor: ProcessorProcess) -> None:
    processor.control(hang_seconds=0.3)

    outcome = processor.gateway().charge(request("x", "tok_timeout_after_charge"), deadline=20)

    assert isinstance(outcome, InDoubt)
    assert "no answer within" not in outcome.reason


def test_a_lost_request_is_doubt_then_not_found_then_charged_once(
    processor: ProcessorProcess,
) -> None:
    """F8"""
    lane = processor.gateway()
    lost = request("lost", "tok_lost_kz")

    assert isinstance(lane.charge(lost, deadline=10), InDoubt)
    assert lane.query(lost.reference, deadline=10) == NotFound()
    assert isinstance(lane.charge(lost, deadline=10), Approved)
    assert len(processor.captures()) == 1


def test_each_decline_class_reaches_the_service_by_its_name(processor: ProcessorProcess) -> None:
    lane = processor.gateway()
    tokens = {
        "tok_decline_never": Declined(DeclineClass.NEVER, "stolen_card"),
        "tok_decline_customer_action": Declined(DeclineClass.CUSTOMER_ACTION, "expired_card"),
        "tok_decline_funds": Declined(DeclineClass.FUNDS, "insufficient_funds"),
        "tok_decline_soft": Declined(DeclineClass.ISSUER_SOFT, "do_not_honor"),
        "tok_decline_technical": Declined(DeclineClass.TECHNICAL, "processing_error"),
        "no such card": None,
    }
    for token, expected in tokens.items():
        outcome = lane.charge(request(token, token), deadline=10)
        if expected is None:
            assert outcome == InDoubt("400 ill_formed")
        else:
            assert isinstance(outcome, Declined)
            assert (outcome.decline_class, outcome.code) == (expected.decline_class, expected.code)
            assert lane.query(request(token).reference, deadline=10) == outcome
    assert processor.captures() == []


def test_not_sent_is_what_never_left_or_was_turned_away(processor: ProcessorProcess) -> None:
    """R20"""
    lane = processor.gateway()
    assert lane.charge(request("429", "tok_429_once"), deadline=10) == NotSent(
        "429: too many requests"
    )
    processor.control(forbidden=["sandbox-kz"])
    assert processor.gateway(account="sandbox-kz").charge(request("403"), deadline=10) == NotSent(
        "403: the lane is refused", lane_refused=True
    )
    processor.kill()
    assert isinstance(lane.charge(request("away"), deadline=10), NotSent)
    processor.start()
    assert processor.captures() == []


def test_the_api_key_is_asked_for_everywhere_but_on_livez(processor: ProcessorProcess) -> None:
    paths = ["/v1/charges/x", "/v1/journal", "/v1/statements/a/2026-01-05.csv", "/nowhere"]

    for path in paths:
        assert httpx.get(processor.url + path, trust_env=False).status_code == 401
    assert httpx.get(f"{processor.url}/livez", trust_env=False).status_code == 200


def test_a_pending_charge_is_resolved_and_says_so_by_a_signed_webhook(
    processor: ProcessorProcess, inbox: Inbox
) -> None:
    """R28: signed over the raw body in real time, repeated with the same id until it is taken."""
    inbox.refuse = 1
    lane = processor.gateway()
    asked = request("pending", "tok_pending_1s")

    assert isinstance(lane.charge(asked, deadline=10), Pending)
    wait_for(lambda: len(inbox.arrived) == 2, 20, "the webhook, and its repeat")

    now = datetime.now(UTC)
    hints = [lane.parse_webhook(raw, headers, now=now) for raw, headers in inbox.arrived]
    assert hints[0] == hints[1]
    assert hints[0] == WebhookHint(hints[0].event_id, asked.reference, "charge.approved")
    assert isinstance(lane.query(asked.reference, deadline=10), Approved)


def test_a_pending_charge_resolves_after_a_kill_too(processor: ProcessorProcess) -> None:
    lane = processor.gateway()
    approved, expired = request("a", "tok_pending_2s"), request("b", "tok_pending_2s")
    lane.charge(approved, deadline=10)
    lane.charge(expired, deadline=10)
    assert lane.expire(expired.reference, deadline=10) == Expired()
    processor.kill()
    processor.start()

    wait_for(
        lambda: isinstance(lane.query(approved.reference, deadline=10), Approved), 20, "its end"
    )

    assert lane.query(expired.reference, deadline=10) == Expired()
    assert lane.expire(approved.reference, deadline=10) == lane.query(
        approved.reference, deadline=10
    )
    assert isinstance(lane.charge(expired, deadline=10), InDoubt)
    assert [line["reference"] for line in processor.captures()] == [str(approved.reference)]


def test_an_outage_is_doubt_and_ends(processor: ProcessorProcess) -> None:
    """F31"""
    lane = processor.gateway()
    processor.control(outage=True)
    assert lane.charge(request("x"), deadline=10) == InDoubt("503 away", lane_failed=True)
    processor.control(outage=False)
    assert isinstance(lane.charge(request("x"), deadline=10), Approved)


def test_the_statement_is_dated_by_the_business_clock(
    processor: ProcessorProcess, clock_file: Path
) -> None:
    """R18: the file of a day exists once CLOCK_FILE says that the day is over."""
    ahead = timedelta(days=40)
    clock_file.write_text(str(ahead.total_seconds()))
    day = (datetime.now(UTC) + ahead).date()
    processor.gateway().charge(request("stated"), deadline=10)
    path = f"/v1/statements/sandbox-main/{day}.csv"

    early = processor.get(path)
    clock_file.write_text(str((ahead + timedelta(days=2)).total_seconds()))
    file = processor.get(path)

    assert (early.status_code, early.json()["error"]) == (409, "day_not_over")
    assert file.headers["Content-Type"] == "text/csv; charset=utf-8"
    kinds = [line.split(",")[1] for line in file.text.splitlines()]
    lines = processor.get(f"/v1/statements/sandbox-main.csv?from={day - ahead}&to={day}").text
    booked = [line for line in lines.splitlines() if ",charge," in line]
    assert kinds[0:2] == ["type", "opening"]
    assert kinds[-1] == "closing"
    assert len(booked) <= 1
    # Only if midnight passed between reading the clock and charging is the line of the next day.
    assert kinds.count("charge") == len(booked)
    assert (
        str(request("stated").reference)
        in processor.get(
            f"/v1/statements/sandbox-main.csv?from={day}&to={day + timedelta(days=1)}"
        ).text
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v1/statements/sandbox-main/yesterday.csv",
        "/v1/statements/sandbox-main.csv",
        "/v1/statements/sandbox-main.csv?from=2026-01-05&to=2026-01-04",
        "/v1/journal?since=-1",
        "/v1/charges/not-a-uuid",
    ],
)
def test_an_ill_formed_question_is_answered_400(processor: ProcessorProcess, path: str) -> None:
    assert processor.get(path).status_code == 400


def test_a_second_processor_may_not_write_the_same_journal(
    processor: ProcessorProcess, tmp_path: Path
) -> None:
    second = ProcessorProcess(processor.data_dir)

    with pytest.raises(AssertionError, match="is held by another processor"):
        second.start()
