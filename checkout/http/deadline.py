"""The database within the request's deadline: a short wait while it is away, then 503."""

import threading
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest
from rest_framework.request import Request

from checkout import wiring
from checkout.commit import DatabaseAway, committed, is_lost

T = TypeVar("T")

# Half the threads may wait for a database that is away; the rest answers 503 at once, so that
# requests of another kind still find a thread.
_waiters = threading.BoundedSemaphore(max(1, settings.WEB_THREADS // 2))


def reading(request: Request | HttpRequest, work: Callable[[], T]) -> T:
    """Run queries that change nothing; again within the deadline if the database is away.

    Raises DatabaseAway.
    """
    try:
        return work()
    except Error as error:
        if connection.in_atomic_block or not is_lost(error):
            raise
        connection.close()
    return _waiting(request, work)


def in_one_commit(request: Request | HttpRequest, work: Callable[[], T]) -> T:
    """Run `work` in one transaction; whole and again within the deadline if that was lost (F3).

    Raises DatabaseAway after the request's deadline, or at once if too many wait already.
    """
    try:
        return committed(work, deadline=0, clock=wiring.clock())
    except DatabaseAway:
        return _waiting(request, work)


def _waiting(request: Request | HttpRequest, work: Callable[[], T]) -> T:
    if not _waiters.acquire(blocking=False):
        raise DatabaseAway("too many requests wait for the database")
    try:
        return committed(work, deadline=_seconds_left(request), clock=wiring.clock())
    finally:
        _waiters.release()


def _seconds_left(request: Request | HttpRequest) -> float:
    """Of the request's one deadline, counted from the first time the database kept it waiting."""
    now = wiring.clock().monotonic()
    end: float = request.META.setdefault("checkout.ends", now + wiring.ages().request_deadline)
    return max(0.0, end - now)
