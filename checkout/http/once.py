"""A POST happens once: the Idempotency-Key, its record, and the answer said again (R49)."""

import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import OperationalError, connection
from django.http import HttpResponse
from rest_framework.request import Request

from checkout.clock import Moment
from checkout.commit import confirm_replicated
from checkout.failpoints import failpoint
from checkout.http.bodies import looks_like_card
from checkout.http.deadline import in_one_commit
from checkout.http.keys import caller
from checkout.http.problems import Problem, answered, as_json
from checkout.models import IdempotencyRecord

logger = logging.getLogger(__name__)

_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?", re.ASCII)
_LOCK_NOT_AVAILABLE: Final = "55P03"
_INSERT_ONCE: Final = """
    INSERT INTO checkout_idempotencyrecord (account_id, key, request_sha256, body, created_at)
    VALUES (%s, %s, %s, '', %s) ON CONFLICT (account_id, key) DO NOTHING
"""


@dataclass(frozen=True)
class _Reply:
    status: int
    body: str
    replayed: bool


def idempotency_key(request: Request) -> str:
    """The Idempotency-Key header: 1-255 printable ASCII characters (R49); Problem if it is not."""
    key = request.META.get("HTTP_IDEMPOTENCY_KEY", "")
    if not key:
        raise Problem("idempotency-key-missing", "Every POST needs an Idempotency-Key header.")
    if not _IDEMPOTENCY_KEY.fullmatch(key) or looks_like_card(key):
        raise Problem("idempotency-key-invalid", "Send 1 to 255 printable ASCII characters.")
    return str(key)


def idempotent(
    *, request: Request, key: str, now: Moment, work: Callable[[], tuple[int, object]]
) -> HttpResponse:
    """Do `work` (status and document) once for the account's key, and answer its repetitions.

    The record, the work and the answer commit together (F1-F3). A second request with the key waits
    for the first at the record's unique index, for 2 s at most. What `work` refuses by raising is
    rolled back with the record, so the key is free again; validate before calling (R49).
    Raises Problem idempotency-key-in-use (409) and idempotency-key-reused (422).
    """
    account_id, asked = caller(request).account_id, _request_sha256(request)

    def once() -> _Reply:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '2s'")
        if not _first_with_key(account_id, key, asked, now):
            return _stored(account_id, key, asked)
        status, document = work()
        body = as_json(document)
        IdempotencyRecord.objects.filter(account_id=account_id, key=key).update(
            status=status, body=body
        )
        failpoint("api.before_commit")
        return _Reply(status, body, replayed=False)

    reply = in_one_commit(request, once)
    failpoint("api.after_commit")
    logger.info(
        "answered",
        extra={
            "path": request.path,
            "account": str(account_id),
            "status": reply.status,
            "replayed": reply.replayed,
        },
    )
    response = answered(reply.body, status=reply.status)
    if reply.replayed:
        response["Idempotent-Replayed"] = "true"
    return response


def _request_sha256(request: Request) -> str:
    """What was asked: method, path and the body's values, whatever their order and spacing."""
    body = json.dumps(request.data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{request.method}\n{request.path}\n{body}".encode()).hexdigest()


def _first_with_key(account_id: UUID, key: str, asked: str, now: Moment) -> bool:
    """Insert the record; False if a committed one is there. Waits for one that may yet commit."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_INSERT_ONCE, [account_id, key, asked, now.real])
            return bool(cursor.rowcount == 1)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise _in_use() from error


def _in_use() -> Problem:
    said = "Repeat the request in a moment, with the same key."
    return Problem("idempotency-key-in-use", said, headers={"Retry-After": "2"})


def _stored(account_id: UUID, key: str, asked: str) -> _Reply:
    record = IdempotencyRecord.objects.filter(account_id=account_id, key=key).first()
    if record is None:
        # The timetable forgot the answer after its 30 days, between our insert and this question.
        raise _in_use()
    if record.request_sha256 != asked:
        raise Problem("idempotency-key-reused", "Another body or address was sent with this key.")
    # The first commit may have been seen before a standby had it: the repetition promises it too.
    confirm_replicated()
    return _Reply(record.status or 200, record.body, replayed=True)
