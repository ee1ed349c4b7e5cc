"""The sandbox over HTTP: a plain WSGI application.

    POST /v1/charges                     Idempotency-Key = reference; 201, or 409, 422, 429
    GET  /v1/charges/{reference}         200, or 404 not_found | expired
    POST /v1/charges/{reference}/expire  200 with the status it has now
    GET  /v1/journal?since=N             the lines after line N, JSON lines
    GET  /v1/statements/{account}/{day}.csv, /v1/statements/{account}.csv?from=&to=
                                         409 until the last day is over on the business clock
    POST /v1/control                     instructions of processor/control.py
    GET  /livez                          200, without a key, whatever control says

All but /livez ask for `Authorization: Bearer <PROCESSOR_API_KEY>`. An error is {"error", "detail"}.
"""

import errno
import hmac
import json
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from processor.behaviour import Delivery
from processor.clock import Clock, FileClock
from processor.control import IllFormed
from processor.journal import Journal, JournalBroken
from processor.orders import read_order, read_reference
from processor.sandbox import DayNotOver, Reply, Sandbox
from processor.webhooks import Sender

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

MAX_BODY = 64 * 1024
RESOLVE_SECONDS = 0.1
_JSON = "application/json"


@dataclass(frozen=True)
class Request:
    """What a handler is given: the path's parts, the query, the body and the idempotency key."""

    parts: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    key: str


@dataclass(frozen=True)
class Text:
    """An answer that is not JSON."""

    content: str
    content_type: str


class Unanswered(ConnectionResetError):
    """The connection is to be closed without an answer; gunicorn does so on this errno, quietly."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "left unanswered on purpose")


class App:
    """The WSGI callable around one Sandbox."""

    def __init__(self, *, sandbox: Sandbox, api_key: str) -> None:
        self._sandbox = sandbox
        self._bearer = f"Bearer {api_key}".encode()
        self._routes: list[tuple[str, re.Pattern[str], Callable[[Request], Reply | Text]]] = [
            ("POST", re.compile(r"/v1/charges"), self._charge),
            ("GET", re.compile(r"/v1/charges/(?P<reference>[^/]+)"), self._query),
            ("POST", re.compile(r"/v1/charges/(?P<reference>[^/]+)/expire"), self._expire),
            ("GET", re.compile(r"/v1/journal"), self._journal),
            (
                "GET",
                re.compile(r"/v1/statements/(?P<account>[\w-]+)/(?P<day>[^/]+)\.csv"),
                self._day,
            ),
            ("GET", re.compile(r"/v1/statements/(?P<account>[\w-]+)\.csv"), self._days),
            ("POST", re.compile(r"/v1/control"), self._control),
        ]

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer one request, or raise Unanswered where it shall not be answered."""
        answer = self._answer(environ)
        if isinstance(answer, Text):
            return _send(start_response, 200, answer.content.encode(), answer.content_type)
        match answer.delivery:
            case Delivery.HANGUP:
                raise Unanswered
            case Delivery.SILENCE:
                _wait_until_left(environ.get("gunicorn.socket"), self._sandbox.hang_seconds)
                raise Unanswered
            case Delivery.SERVER_ERROR:
                return _send(start_response, 500, b'{"error":"internal"}', _JSON)
            case Delivery.GARBLED:
                body = json.dumps(answer.body).encode()
                return _send(start_response, answer.status, body[: len(body) // 2], _JSON)
            case Delivery.ANSWER:
                body = json.dumps(answer.body).encode()
                return _send(start_response, answer.status, body, _JSON, answer.headers)

    def _answer(self, environ: "WSGIEnvironment") -> Reply | Text:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/livez":
            return Reply(200, {"status": "live"})
        given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")
        if not hmac.compare_digest(given, self._bearer):
            return _problem(401, "unauthorized", "wrong or missing API key")
        for verb, pattern, handler in self._routes:
            match = pattern.fullmatch(path)
            if match is not None and verb == method:
                return _guarded(handler, match.groupdict(), environ)
        return _problem(404, "no_such_page", path)

    def _charge(self, request: Request) -> Reply:
        return self._sandbox.charge(read_order(request.body, key=request.key))

    def _query(self, request: Request) -> Reply:
        return self._sandbox.query(read_reference(request.parts["reference"]))

    def _expire(self, request: Request) -> Reply:
        return self._sandbox.expire(read_reference(request.parts["reference"]))

    def _journal(self, request: Request) -> Text:
        since = request.query.get("since", "0")
        if not re.fullmatch(r"[0-9]{1,12}", since, re.ASCII):
            raise IllFormed("since: not a line number")
        lines = self._sandbox.lines(since=int(since))
        return Text("".join(f"{line.as_json()}\n" for line in lines), "application/x-ndjson")

    def _day(self, request: Request) -> Text:
        day = _date("day", request.parts["day"])
        return self._statement(request.parts["account"], day, day)

    def _days(self, request: Request) -> Text:
        first = _date("from", request.query.get("from", ""))
        last = _date("to", request.query.get("to", ""))
        if last < first:
            raise IllFormed("to: before from")
        return self._statement(request.parts["account"], first, last)

    def _statement(self, account: str, first: date, last: date) -> Text:
        text = self._sandbox.statement(account=account, first=first, last=last)
        return Text(text, "text/csv; charset=utf-8")

    def _control(self, request: Request) -> Reply:
        try:
            instruction = json.loads(request.body)
        except ValueError as error:
            raise IllFormed("body: not JSON") from error
        if not isinstance(instruction, dict):
            raise IllFormed("body: not an object")
        return self._sandbox.instruct(instruction)


def from_environment() -> App:
    """The application with its journal and threads, as gunicorn's worker starts it.

    Raises KeyError with the name of a variable that is missing, JournalTaken, JournalUnreadable.
    """
    clock_file = os.environ.get("CLOCK_FILE", "")
    clock = FileClock(Path(clock_file) if clock_file else None)
    api_key = os.environ["PROCESSOR_API_KEY"]
    journal_path = Path(os.environ["PROCESSOR_DATA_DIR"]) / "journal.ndjson"
    journal = Journal.open(journal_path, clock=clock)
    webhook_url = os.environ.get("WEBHOOK_URL", "")
    if not webhook_url:
        return _started(Sandbox(journal=journal, clock=clock), clock=clock, api_key=api_key)
    secret = os.environ["PROCESSOR_WEBHOOK_SECRET"]
    sender = Sender(url=webhook_url, secret=secret, clock=clock)
    threading.Thread(target=sender.run, name="webhooks", daemon=True).start()
    sandbox = Sandbox(journal=journal, clock=clock, announce=sender.announce)
    return _started(sandbox, clock=clock, api_key=api_key)


def _started(sandbox: Sandbox, *, clock: Clock, api_key: str) -> App:
    def resolve() -> None:
        while True:
            clock.sleep(RESOLVE_SECONDS)
            try:
                sandbox.resolve_due()
            except JournalBroken:
                logger.exception("nothing more is decided until a restart")
                return
            except Exception:
                logger.exception("a pending charge was not resolved, trying again")

    threading.Thread(target=resolve, name="resolve", daemon=True).start()
    return App(sandbox=sandbox, api_key=api_key)


def _guarded(
    handler: Callable[[Request], Reply | Text],
    parts: Mapping[str, str],
    environ: "WSGIEnvironment",
) -> Reply | Text:
    try:
        return handler(_request(parts, environ))
    except IllFormed as error:
        return _problem(400, "ill_formed", str(error))
    except DayNotOver as error:
        return _problem(409, "day_not_over", str(error))


def _request(parts: Mapping[str, str], environ: "WSGIEnvironment") -> Request:
    length = environ.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > MAX_BODY:
        raise IllFormed(f"body: more than {MAX_BODY} bytes, or of no known length")
    return Request(
        parts=parts,
        query={name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()},
        body=environ["wsgi.input"].read(int(length)),
        key=environ.get("HTTP_IDEMPOTENCY_KEY", ""),
    )


def _date(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise IllFormed(f"{name}: not a date as 2026-01-31") from error


def _wait_until_left(connection: socket.socket | None, seconds: float) -> None:
    """Say nothing until the asker leaves, at most `seconds`: a silence must not keep a thread."""
    if connection is None:
        return
    connection.settimeout(seconds or 0.001)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return


def _send(
    start_response: "StartResponse",
    status: int,
    body: bytes,
    content_type: str,
    headers: Mapping[str, str] | None = None,
) -> list[bytes]:
    start_response(
        f"{status} {HTTPStatus(status).phrase}",
        [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            *(headers or {}).items(),
        ],
    )
    return [body]


def _problem(status: int, error: str, detail: str) -> Reply:
    body: dict[str, Any] = {"error": error, "detail": detail}
    return Reply(status, body)
