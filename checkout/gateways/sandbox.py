"""The sandbox processor's gateway: one HTTP call an outcome, and no guess about money.

What the outcome of a call may be hangs on whether its first byte may have left this machine:
before, nothing was sent; after, only an answer that can be read to the last field settles it, and
everything else is in doubt (R20). There are no retries in here: whoever sends again raises the
attempt's `sends` first.

Connections are not kept alive. A kept connection that the processor closed meanwhile fails after
our bytes were written to it, and would put a charge in doubt that was never seen.
"""

import hashlib
import hmac
import json
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx

from checkout.gateways import (
    Answer,
    Approved,
    BadSignature,
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
from checkout.money import CURRENCY, NotAnAmount, NotUsd, require_usd, usd

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 * 1024
SIGNATURE_HEADER = "sandbox-signature"
SIGNATURE_TOLERANCE = timedelta(seconds=300)
_SIGNATURE = re.compile(r"t=([0-9]{1,12})((?:,[a-z0-9]{1,16}=[0-9a-f]{1,128}){1,8})", re.ASCII)
_BEFORE_ANY_BYTE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)


class Unreadable(Exception):
    """The processor's answer lacks, or holds in another form, what its status promises."""


@dataclass(frozen=True)
class _Reply:
    status: int
    body: bytes


class SandboxGateway:
    """The lane to one account of the sandbox processor.

    `url` is the processor's root; `minimum_age`, `not_found_repeats` and `idempotent_for` are what
    the processor promises (see Gateway). `transport` replaces the network in tests.
    """

    def __init__(
        self,
        *,
        url: str,
        api_key: str,
        account: str,
        webhook_secret: str,
        minimum_age: timedelta,
        not_found_repeats: int,
        idempotent_for: timedelta,
        processor: str = "sandbox",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.processor = processor
        self.idempotent_for = idempotent_for
        self.minimum_age = minimum_age
        self.not_found_repeats = not_found_repeats
        self._account = account
        self._webhook_secret = webhook_secret.encode()
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}", "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_keepalive_connections=0),
            follow_redirects=False,
            # A proxy named by the environment would answer 502 in the processor's name.
            trust_env=False,
            verify=ssl.create_default_context() if url.startswith("https:") else False,
            transport=transport,
        )

    def charge(self, request: ChargeRequest, *, deadline: float) -> Outcome:
        """Send `request` once; an Outcome within `deadline` seconds, whatever the network does.

        Raises NotAnAmount or NotUsd, before anything is sent, for what is no amount of USD.
        """
        require_usd(request.currency)
        reply = self._call(
            "POST",
            "/v1/charges",
            deadline=deadline,
            headers={"Idempotency-Key": str(request.reference)},
            json=self._order(request),
        )
        if isinstance(reply, InDoubt | NotSent):
            return reply
        match reply.status:
            case HTTPStatus.OK | HTTPStatus.CREATED:
                answer = _answer(reply, request.reference)
                # "Expired" to a charge is no outcome of it: a query says what that means.
                return InDoubt("expired") if isinstance(answer, Expired) else answer
            case HTTPStatus.TOO_MANY_REQUESTS:
                return NotSent("429: too many requests")
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                return NotSent(f"{reply.status}: the lane is refused", lane_refused=True)
            case _:
                return _doubt(reply)

    def query(self, reference: UUID, *, deadline: float) -> Answer:
        """What became of `reference`; NotFound and Expired only if the processor itself says so."""
        reply = self._call("GET", f"/v1/charges/{reference}", deadline=deadline)
        if isinstance(reply, InDoubt | NotSent):
            return InDoubt(f"not answered: {reply.reason}")
        if reply.status == HTTPStatus.OK:
            return _answer(reply, reference)
        # A 404 of something in between (a wrong path, a proxy) says nothing about the charge.
        if reply.status == HTTPStatus.NOT_FOUND:
            match _error(reply):
                case "not_found":
                    return NotFound()
                case "expired":
                    return Expired()
        return _doubt(reply)

    def expire(self, reference: UUID, *, deadline: float) -> Answer:
        """End a pending charge; Expired once the processor confirms it, else how it stands."""
        reply = self._call("POST", f"/v1/charges/{reference}/expire", deadline=deadline)
        if isinstance(reply, InDoubt | NotSent):
            return InDoubt(f"not answered: {reply.reason}")
        if reply.status == HTTPStatus.OK:
            return _answer(reply, reference)
        return _doubt(reply)

    def parse_webhook(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime
    ) -> WebhookHint:
        """The hint in `body`, if signed within 300 s of `now` (real UTC); raises BadSignature.

        A signed body that cannot be read is a hint without reference, so that it is kept once
        instead of being sent again for ever.
        """
        sent = {name.lower(): value for name, value in headers.items()}
        self._verify(body, sent.get(SIGNATURE_HEADER, ""), now)
        try:
            return _hint(body)
        except Unreadable:
            return WebhookHint(hashlib.sha256(body).hexdigest(), None, "unreadable")

    def _verify(self, body: bytes, header: str, now: datetime) -> None:
        match = _SIGNATURE.fullmatch(header)
        if match is None:
            raise BadSignature("missing or ill-formed signature header")
        signed_at, schemes = match.groups()
        age = abs(now.timestamp() - int(signed_at))
        if age > SIGNATURE_TOLERANCE.total_seconds():
            raise BadSignature("signed more than 300 s from now")
        expected = hmac.new(self._webhook_secret, signed_at.encode() + b"." + body, hashlib.sha256)
        given = [scheme[3:] for scheme in schemes.split(",") if scheme.startswith("v1=")]
        if not any(hmac.compare_digest(expected.hexdigest(), one) for one in given):
            raise BadSignature("signature does not match")

    def _order(self, request: ChargeRequest) -> dict[str, Any]:
        return {
            "reference": str(request.reference),
            "amount": str(usd(request.amount)),
            "currency": request.currency,
            "token": request.token,
            "account": self._account,
            "metadata": {
                "creator": str(request.creator),
                "subscription": str(request.subscription),
                "charge": str(request.charge),
                "round": request.round,
                "number": request.number,
            },
        }

    def _call(
        self, method: str, path: str, *, deadline: float, **parts: Any
    ) -> _Reply | InDoubt | NotSent:
        call = _Call()
        request = self._client.build_request(
            method, path, timeout=deadline, extensions={"trace": call.trace}, **parts
        )
        return call.run(lambda: self._exchange(request), deadline=deadline)

    def _exchange(self, request: httpx.Request) -> _Reply:
        response = self._client.send(request, stream=True)
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Unreadable("an encoding that was not asked for")
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise Unreadable(f"answer longer than {MAX_ANSWER_BYTES} bytes")
            return _Reply(response.status_code, bytes(body))
        finally:
            response.close()


class _Abandoned(Exception):
    """The deadline passed before the first byte: this thread must not send any more."""


class _Call:
    """One exchange in a thread of its own, ended at its deadline whatever it is waiting for.

    httpx's time-outs are per operation, so that an answer dripping in byte by byte, or a name
    server that says nothing, would outlast any of them. Two run here: the exchange, and the caller
    who waits for it. The gate (`_lock`) decides between them: either the first byte is let through
    before the caller gives up, and giving up means doubt, or it never leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sending = False
        self._given_up = False
        self._stream: Any = None
        self._done = threading.Event()
        self._result: _Reply | InDoubt | NotSent | None = None
        self._defect: Exception | None = None

    def run(self, exchange: Callable[[], _Reply], *, deadline: float) -> _Reply | InDoubt | NotSent:
        """The exchange's reply, or what is known of it after `deadline` seconds.

        Raises what the exchange raised, if that is none of the network's errors and came before
        the first byte: a defect of ours, and nothing was sent.
        """
        thread = threading.Thread(target=self._run, args=(exchange,), daemon=True)
        try:
            thread.start()
            self._done.wait(deadline)
        finally:
            # Also when a soft time limit is raised here: no byte may leave after that.
            self._give_up()
        if self._result is not None:
            return self._result
        if self._defect is not None:
            raise self._defect
        if self._sending:
            return InDoubt(f"no answer within {deadline:g} s")
        return NotSent(f"not connected within {deadline:g} s")

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx's trace extension: where the exchange has got to."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._stream = info["return_value"]
        elif event.endswith(".send_request_headers.started"):
            with self._lock:
                if self._given_up:
                    raise _Abandoned
                self._sending = True

    def _run(self, exchange: Callable[[], _Reply]) -> None:
        try:
            self._settle(exchange())
        except _Abandoned:
            return
        except _BEFORE_ANY_BYTE as error:
            reason = _named(error)
            self._settle(InDoubt(reason) if self._sending else NotSent(reason))
        except (httpx.HTTPError, httpx.StreamError, Unreadable, OSError) as error:
            self._settle(InDoubt(_named(error)))
        except Exception as error:  # the thread's outermost frame
            logger.exception("the exchange with the processor has a defect")
            if self._sending:
                self._settle(InDoubt(_named(error)))
            else:
                self._defect = error
        finally:
            self._done.set()

    def _settle(self, result: _Reply | InDoubt | NotSent) -> None:
        """Unless the caller gave up first: what breaks after that is our own doing."""
        with self._lock:
            if not self._given_up:
                self._result = result

    def _give_up(self) -> None:
        with self._lock:
            self._given_up = True
        if not self._done.is_set() and self._stream is not None:
            # Wakes the thread from whatever it is reading or writing.
            with suppress(OSError):
                self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _answer(reply: _Reply, reference: UUID) -> Approved | Declined | Pending | InDoubt | Expired:
    """What a 200 or 201 says; in doubt where one field of it is not as it must be."""
    try:
        fields = _fields(reply.body)
        if fields.get("reference") != str(reference):
            raise Unreadable("another reference than was asked for")
        match fields.get("status"):
            case "approved":
                return _approved(fields)
            case "declined":
                return _declined(fields)
            case "pending":
                return Pending(_moment(fields.get("expires_at")))
            case "expired":
                return Expired()
            case other:
                raise Unreadable(f"status {other!r}")
    except Unreadable as error:
        return InDoubt(f"unreadable answer: {error}")


def _approved(fields: Mapping[str, Any]) -> Approved:
    try:
        amount = usd(_text(fields, "amount"))
        require_usd(_text(fields, "currency"))
    except (NotAnAmount, NotUsd) as error:
        raise Unreadable(str(error)) from error
    if amount == 0:
        raise Unreadable("amount: zero was captured")
    return Approved(amount, CURRENCY, _text(fields, "processor_reference"))


def _declined(fields: Mapping[str, Any]) -> Declined:
    try:
        decline_class = DeclineClass(_text(fields, "decline_class"))
    except ValueError as error:
        raise Unreadable("decline_class") from error
    return Declined(
        decline_class, _text(fields, "decline_code"), _text(fields, "processor_reference")
    )


def _moment(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Unreadable("expires_at")
    return moment


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise Unreadable(name)
    return value


def _fields(body: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable("not JSON") from error
    if not isinstance(fields, dict):
        raise Unreadable("not an object")
    return fields


def _hint(body: bytes) -> WebhookHint:
    fields = _fields(body)
    try:
        reference = UUID(_text(fields, "reference"))
    except ValueError as error:
        raise Unreadable("reference") from error
    return WebhookHint(_text(fields, "id"), reference, _text(fields, "type"))


def _error(reply: _Reply) -> str:
    try:
        return _text(_fields(reply.body), "error")
    except Unreadable:
        return ""


def _doubt(reply: _Reply) -> InDoubt:
    """A status that settles nothing; a 5xx counts against the lane as well."""
    reason = f"{reply.status} {_error(reply)}".strip()
    return InDoubt(reason, lane_failed=reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR)
