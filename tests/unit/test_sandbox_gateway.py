"""The sandbox gateway: what each answer of the network means for money, and when it must be over."""

import hashlib
import hmac
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout.gateways import (
    Approved,
    BadSignature,
    ChargeRequest,
    DeclineClass,
    Declined,
    Expired,
    Gateway,
    InDoubt,
    NotFound,
    NotSent,
    Pending,
    WebhookHint,
)
from checkout.gateways.sandbox import SandboxGateway
from checkout.money import NotAnAmount, NotUsd
from devstack.ports import free_port
from tests.waiting import wait_for

REFERENCE = UUID("7c4a6d1e-0000-5000-8000-000000000001")
OTHER = UUID("7c4a6d1e-0000-5000-8000-000000000002")
NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
SECRET = "hook-secret"

Answer = Callable[[httpx.Request], httpx.Response]


def gateway(url: str = "http://processor", answer: Answer | None = None) -> SandboxGateway:
    return SandboxGateway(
        url=url,
        api_key="key",
        account="sandbox-main",
        webhook_secret=SECRET,
        minimum_age=timedelta(minutes=10),
        not_found_repeats=3,
        idempotent_for=timedelta(hours=24),
        transport=httpx.MockTransport(answer) if answer else None,
    )


def request(**changes: Any) -> ChargeRequest:
    fields: dict[str, Any] = {
        "reference": REFERENCE,
        "amount": Decimal("19.99"),
        "currency": "USD",
        "token": "tok_approve",
        "creator": UUID(int=1),
        "subscription": UUID(int=2),
        "charge": UUID(int=3),
        "round": 1,
        "number": 2,
    }
    return ChargeRequest(**(fields | changes))


def body(**changes: Any) -> dict[str, Any]:
    """An approval as the processor sends it, changed; a field set to None is left out."""
    fields = {
        "status": "approved",
        "reference": str(REFERENCE),
        "processor_reference": "sbx_1",
        "amount": "19.99",
        "currency": "USD",
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def answering(status: int, content: dict[str, Any] | bytes | None = None) -> SandboxGateway:
    raw = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
    return gateway(answer=lambda _request: httpx.Response(status, content=raw))


def failing(error: type[Exception]) -> SandboxGateway:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise error("as the network does")

    return gateway(answer=fail)


def test_it_is_a_gateway() -> None:
    lane: Gateway = gateway()

    assert (lane.processor, lane.not_found_repeats) == ("sandbox", 3)


def test_the_attempt_is_key_and_merchant_reference() -> None:
    """R23"""
    sent: list[httpx.Request] = []

    def keep(sent_request: httpx.Request) -> httpx.Response:
        sent.append(sent_request)
        return httpx.Response(201, json=body())

    gateway(answer=keep).charge(request(), deadline=5)

    assert sent[0].headers["Idempotency-Key"] == str(REFERENCE)
    assert sent[0].headers["Authorization"] == "Bearer key"
    assert json.loads(sent[0].content) == {
        "reference": str(REFERENCE),
        "amount": "19.99",
        "currency": "USD",
        "token": "tok_approve",
        "account": "sandbox-main",
        "metadata": {
            "creator": str(UUID(int=1)),
            "subscription": str(UUID(int=2)),
            "charge": str(UUID(int=3)),
            "round": 1,
            "number": 2,
        },
    }


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (body(), Approved(Decimal("19.99"), "USD", "sbx_1")),
        # What was captured is what counts, not what was asked for (R37).
        (body(amount="19.96"), Approved(Decimal("19.96"), "USD", "sbx_1")),
        (body(amount="20"), Approved(Decimal("20.00"), "USD", "sbx_1")),
        (
            body(status="declined", decline_class="funds", decline_code="insufficient_funds"),
            Declined(DeclineClass.FUNDS, "insufficient_funds", "sbx_1"),
        ),
        (
            body(status="pending", expires_at="2026-01-06T09:30:00+00:00"),
            Pending(NOW + timedelta(days=1)),
        ),
        (body(status="pending"), Pending(None)),
    ],
)
def test_a_whole_answer_is_an_outcome(status: int, answer: dict[str, Any], outcome: object) -> None:
    assert answering(status, answer).charge(request(), deadline=5) == outcome
    assert answering(200, answer).query(REFERENCE, deadline=5) == outcome


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>maintenance</html>",
        b'{"status": "approved", "amou',
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 40_000,
        b'{"status": "approved"}' + b" " * 70_000,
        body(amount=None),
        body(amount=19.99),
        body(amount=1999),
        body(amount="19.999"),
        body(amount="-19.99"),
        body(amount="1e1"),
        body(amount="19,99"),
        body(amount=" 19.99"),
        body(amount="１９.99"),
        body(amount="0.00"),
        body(currency=None),
        body(currency="KZT"),
        body(currency="usd"),
        body(processor_reference=None),
        body(processor_reference=""),
        body(reference=None),
        body(reference=str(OTHER)),
        body(status=None),
        body(status="captured?"),
        body(status="declined"),
        body(status="declined", decline_class="hard", decline_code="x"),
        body(status="declined", decline_class="never"),
        body(status="pending", expires_at="soon"),
        body(status="pending", expires_at="2026-01-06T09:30:00"),
        body(status="pending", expires_at=17),
    ],
    ids=str,
)
def test_an_answer_that_cannot_be_read_to_the_last_field_is_in_doubt(
    answer: dict[str, Any] | bytes,
) -> None:
    """R20, R2, R9"""
    assert isinstance(answering(201, answer).charge(request(), deadline=5), InDoubt)
    assert isinstance(answering(200, answer).query(REFERENCE, deadline=5), InDoubt)
    assert isinstance(answering(200, answer).expire(REFERENCE, deadline=5), InDoubt)


@pytest.mark.parametrize(
    "status", [202, 204, 302, 400, 402, 404, 408, 409, 410, 422, 500, 502, 503, 504]
)
def test_any_other_status_is_in_doubt_and_never_a_decline(status: int) -> None:
    """R20, F9: 5xx, 409 key in use, 422 key used with another body, and what nobody foresaw."""
    lane = answering(status, {"error": "key_in_use"})

    assert lane.charge(request(), deadline=5) == InDoubt(
        f"{status} key_in_use", lane_failed=status >= 500
    )
    assert isinstance(lane.query(REFERENCE, deadline=5), InDoubt)
    assert isinstance(lane.expire(REFERENCE, deadline=5), InDoubt)


@pytest.mark.parametrize(("status", "lane_refused"), [(429, False), (401, True), (403, True)])
def test_a_refusal_at_the_door_was_not_sent(status: int, lane_refused: bool) -> None:
    """R20: 429, and 401 or 403, which pause the lane."""
    lane = answering(status, {"error": "no"})

    outcome = lane.charge(request(), deadline=5)

    assert isinstance(outcome, NotSent)
    assert outcome.lane_refused is lane_refused
    assert isinstance(lane.query(REFERENCE, deadline=5), InDoubt)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ReadTimeout,
        httpx.WriteTimeout,
        httpx.ReadError,
        httpx.WriteError,
        httpx.CloseError,
        httpx.RemoteProtocolError,
        httpx.LocalProtocolError,
        httpx.DecodingError,
        OSError,
    ],
)
def test_a_break_after_connecting_is_in_doubt(error: type[Exception]) -> None:
    """R20"""
    assert isinstance(failing(error).charge(request(), deadline=5), InDoubt)
    assert isinstance(failing(error).query(REFERENCE, deadline=5), InDoubt)


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ConnectTimeout])
def test_a_break_before_any_byte_was_not_sent(error: type[Exception]) -> None:
    """R20; but a query that was not sent leaves the charge as doubtful as it was."""
    assert isinstance(failing(error).charge(request(), deadline=5), NotSent)
    assert isinstance(failing(error).query(REFERENCE, deadline=5), InDoubt)
    assert isinstance(failing(error).expire(REFERENCE, deadline=5), InDoubt)


def test_a_defect_of_ours_before_the_first_byte_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError).charge(request(), deadline=5)


def test_not_found_is_believed_of_the_processor_alone() -> None:
    """R22: a proxy's 404 is no word about the charge."""
    assert answering(404, {"error": "not_found"}).query(REFERENCE, deadline=5) == NotFound()
    assert answering(404, {"error": "expired"}).query(REFERENCE, deadline=5) == Expired()
    assert isinstance(answering(404, b"no such page").query(REFERENCE, deadline=5), InDoubt)


def test_expire_is_confirmed_by_the_status_expired_alone() -> None:
    assert answering(200, body(status="expired")).expire(REFERENCE, deadline=5) == Expired()
    assert isinstance(answering(404, {"error": "not_found"}).expire(REFERENCE, deadline=5), InDoubt)
    assert answering(200, body()).expire(REFERENCE, deadline=5) == Approved(
        Decimal("19.99"), "USD", "sbx_1"
    )


def test_an_expired_charge_is_no_outcome_of_a_send() -> None:
    assert isinstance(answering(201, body(status="expired")).charge(request(), deadline=5), InDoubt)


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"amount": Decimal("19.999")}, NotAnAmount), ({"currency": "KZT"}, NotUsd)],
)
def test_what_is_no_amount_of_usd_is_never_sent(
    changes: dict[str, Any], error: type[Exception]
) -> None:
    """R3, R9"""
    with pytest.raises(error):
        failing(AssertionError).charge(request(**changes), deadline=5)


# Real sockets: what a time-out per operation would not end.


@contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A listener whose every connection is given to `talk`; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk_quietly, args=(connection,), daemon=True).start()

    def talk_quietly(connection: socket.socket) -> None:
        with connection:
            try:
                talk(connection)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def read_request(connection: socket.socket) -> None:
    """All of it: closing with bytes unread would reset the connection."""
    head, _, rest = connection.recv(65_536).partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(rest) < length:
        rest += connection.recv(65_536)


def drip(data: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        read_request(connection)
        for byte in data:
            connection.sendall(bytes([byte]))
            if left(connection, 0.05):
                return

    return talk


def left(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False


def silent(connection: socket.socket) -> None:
    read_request(connection)
    left(connection, 30)


def hang_up(connection: socket.socket) -> None:
    read_request(connection)


def reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


HEAD = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n"


@pytest.mark.parametrize(
    "talk",
    [silent, drip(HEAD), drip(HEAD + b"\r\n" + b" " * 4000)],
    ids=["silent", "dripping its headers", "dripping its body"],
)
def test_the_deadline_is_for_the_whole_call(talk: Callable[[socket.socket], None]) -> None:
    """R32, F9"""
    ended = threading.Event()

    def talk_to_the_end(connection: socket.socket) -> None:
        try:
            talk(connection)
        finally:
            ended.set()

    with server(talk_to_the_end) as url:
        lane = gateway(url)
        begun = time.monotonic()
        # Long enough for a busy machine to connect in, else nothing was sent and nothing is in doubt.
        outcome = lane.charge(request(), deadline=1.0)
        took = time.monotonic() - begun
        # The thread is woken and its connection closed, not left to wait for what may never come.
        assert ended.wait(10)

    # The client's own time-out ends in the same moment, and may be the first.
    assert outcome in (InDoubt("no answer within 1 s"), InDoubt("ReadTimeout: timed out"))
    assert took < 10


class SoftLimit(Exception):
    """As Celery raises it into a task, in the main thread."""


def test_a_soft_limit_during_the_call_ends_the_connection_too() -> None:
    """R32: the task goes on to write its doubt; nothing of the call may live on behind it."""
    asked, ended = threading.Event(), threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def talk(connection: socket.socket) -> None:
        read_request(connection)
        asked.set()
        signal.pthread_kill(main, signal.SIGUSR1)
        if left(connection, 5):
            ended.set()

    def limit(_signal: int, _frame: object) -> None:
        raise SoftLimit

    former = signal.signal(signal.SIGUSR1, limit)
    try:
        with server(talk) as url, pytest.raises(SoftLimit):
            gateway(url).charge(request(), deadline=10)
        assert asked.is_set()
        assert ended.wait(2)
    finally:
        signal.signal(signal.SIGUSR1, former)


@pytest.mark.parametrize("talk", [hang_up, reset])
def test_a_connection_closed_after_our_bytes_is_in_doubt(
    talk: Callable[[socket.socket], None],
) -> None:
    """R20, F8"""
    with server(talk) as url:
        assert isinstance(gateway(url).charge(request(), deadline=5), InDoubt)


def test_a_refused_connection_was_not_sent() -> None:
    """R20"""
    outcome = gateway(f"http://127.0.0.1:{free_port()}").charge(request(), deadline=5)

    assert isinstance(outcome, NotSent)
    assert not outcome.lane_refused


def test_a_name_that_does_not_resolve_was_not_sent() -> None:
    """R20"""
    assert isinstance(gateway("http://no-such-host.invalid").charge(request(), deadline=5), NotSent)


def test_no_connection_before_the_deadline_was_not_sent_and_sends_nothing_later() -> None:
    """R20: once the caller has been told, not a byte leaves, even if the connection comes then."""
    seen: list[bytes] = []
    connected, let_go = threading.Event(), threading.Event()

    class Late(httpx.BaseTransport):
        """Connects, waits until the caller has given up, and then goes on to send."""

        def handle_request(self, late: httpx.Request) -> httpx.Response:
            connected.set()
            let_go.wait(5)
            late.extensions["trace"]("http11.send_request_headers.started", {})
            seen.append(late.read())
            return httpx.Response(201, json=body())

    lane = SandboxGateway(
        url="http://processor",
        api_key="key",
        account="a",
        webhook_secret=SECRET,
        minimum_age=timedelta(0),
        not_found_repeats=1,
        idempotent_for=timedelta(hours=24),
        transport=Late(),
    )

    outcome = lane.charge(request(), deadline=0.2)
    threads = [thread for thread in threading.enumerate() if "_run" in thread.name]
    let_go.set()
    for thread in threads:
        thread.join(5)

    assert connected.is_set()
    assert outcome == NotSent("not connected within 0.2 s")
    assert threads
    assert seen == []


def test_connections_are_not_kept() -> None:
    """An idle connection closed by the processor would put the next charge in doubt for nothing."""
    left_after: list[bool] = []
    raw = json.dumps(body()).encode()

    def answer_and_stay(connection: socket.socket) -> None:
        read_request(connection)
        head = f"HTTP/1.1 201 Created\r\nContent-Length: {len(raw)}\r\n\r\n"
        connection.sendall(head.encode() + raw)
        left_after.append(left(connection, 5))

    with server(answer_and_stay) as url:
        lane = gateway(url)
        outcomes = [lane.charge(request(), deadline=5) for _ in range(3)]
        wait_for(lambda: len(left_after) == 3, 10, "all three to be closed by us")

    assert outcomes == [Approved(Decimal("19.99"), "USD", "sbx_1")] * 3
    assert left_after == [True] * 3


# Webhooks


HOOK = json.dumps({"id": "evt_1", "type": "charge.approved", "reference": str(REFERENCE)}).encode()


def sign(raw: bytes, *, at: datetime = NOW, secret: str = SECRET) -> str:
    stamp = int(at.timestamp())
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + raw, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


@pytest.mark.parametrize("header", ["Sandbox-Signature", "sandbox-signature", "SANDBOX-SIGNATURE"])
@pytest.mark.parametrize("age", [timedelta(seconds=s) for s in (-300, 0, 300)])
def test_a_signed_webhook_is_a_hint(header: str, age: timedelta) -> None:
    """R28"""
    hint = gateway().parse_webhook(HOOK, {header: sign(HOOK, at=NOW - age)}, now=NOW)

    assert hint == WebhookHint("evt_1", REFERENCE, "charge.approved")


@pytest.mark.parametrize("age", [timedelta(seconds=s) for s in (-301, 301, 10**9)])
def test_a_webhook_signed_too_long_ago_or_ahead_is_refused(age: timedelta) -> None:
    """R28, F24"""
    with pytest.raises(BadSignature):
        gateway().parse_webhook(HOOK, {"Sandbox-Signature": sign(HOOK, at=NOW - age)}, now=NOW)


def test_one_good_signature_among_several_is_enough() -> None:
    """A secret being changed signs twice for a while."""
    good = sign(HOOK)
    stamp, mac = good.split(",")
    other = sign(HOOK, secret="former").split(",")[1]

    for header in (f"{stamp},{other},{mac}", f"{stamp},{mac},{other}", f"{stamp},v0=00,{mac}"):
        assert gateway().parse_webhook(HOOK, {"Sandbox-Signature": header}, now=NOW).event_id


@pytest.mark.parametrize(
    "header",
    [
        "",
        sign(HOOK, secret="another"),
        sign(HOOK).upper(),
        sign(HOOK) + "\n",
        " " + sign(HOOK),
        sign(HOOK).replace("v1=", "v0="),
        sign(HOOK).split(",")[0],
        sign(HOOK).split(",")[1],
        f"t=1,{sign(HOOK)}",
        "t=１７６７６０５４００,v1=" + "0" * 64,
        f"t={int(NOW.timestamp())},v1=",
    ],
)
def test_an_ill_formed_or_foreign_signature_is_refused(header: str) -> None:
    """R28, F24"""
    with pytest.raises(BadSignature):
        gateway().parse_webhook(HOOK, {"Sandbox-Signature": header}, now=NOW)
    with pytest.raises(BadSignature):
        gateway().parse_webhook(HOOK, {}, now=NOW)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"id": "e"}', b'{"id":"e","reference":"x","type":"t"}']
)
def test_a_signed_body_that_cannot_be_read_is_kept_without_a_reference(raw: bytes) -> None:
    hint = gateway().parse_webhook(raw, {"Sandbox-Signature": sign(raw)}, now=NOW)

    assert hint == WebhookHint(hashlib.sha256(raw).hexdigest(), None, "unreadable")


LANE = gateway()
HEADER = sign(HOOK)


@given(
    at=st.integers(0, len(HOOK) + len(HEADER) - 1),
    flip=st.integers(1, 255),
)
def test_any_changed_byte_of_body_or_signature_is_refused(at: int, flip: int) -> None:
    """R28, F24"""
    whole = bytearray(HOOK + HEADER.encode())
    whole[at] ^= flip
    raw, header = bytes(whole[: len(HOOK)]), bytes(whole[len(HOOK) :]).decode("latin-1")

    with pytest.raises(BadSignature):
        LANE.parse_webhook(raw, {"Sandbox-Signature": header}, now=NOW)


@given(st.binary(max_size=200), st.integers(0, 199))
def test_a_webhook_cut_or_lengthened_is_refused(more: bytes, cut: int) -> None:
    """R28, F24"""
    changed = HOOK[: len(HOOK) - cut] + more
    if changed == HOOK:
        return

    with pytest.raises(BadSignature):
        LANE.parse_webhook(changed, {"Sandbox-Signature": HEADER}, now=NOW)


@given(st.binary(max_size=400), st.sampled_from([200, 201]))
def test_no_bytes_whatever_are_taken_for_a_decline_or_a_capture(raw: bytes, status: int) -> None:
    """R20"""
    assert isinstance(answering(status, raw).charge(request(), deadline=5), InDoubt)
