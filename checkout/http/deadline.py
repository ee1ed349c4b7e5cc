"""The database within the request's deadline: a short wait while it is away, then 503."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request

from checkout import wiring
from checkout.commit import SHARE, DatabaseAway, committed, is_away, is_lost
from checkout.link import patience

T = TypeVar("T")

# Half the threads may wait for a database that is away; the rest answers 503 at once, so that
# requests of another kind still find a thread.
_waiters = threading.BoundedSemaphore(max(1, settings.WEB_THREADS // 2))
# Set while the last that was heard of the database is that it is away: who comes now takes a place
# among the waiters before it tries, since a try at a silent database is a wait already.
_away = threading.Event()
# No statement of a page takes longer; the API's are held to its own deadline.
LONGEST_STATEMENT: Final = 30.0


def reading(request: Request | HttpRequest, work: Callable[[], T]) -> T:
    """Run queries that change nothing; again within the deadline if the database is away.

    Raises DatabaseAway.
    """
    if connection.in_atomic_block:
        return work()
    with _waiting_at_most(request) as take_place:
        try:
            return work()
        except Error as error:
            if not is_lost(error):
                raise
            connection.close()
            take_place(error)
        return _committed(request, work, on_loss=take_place)


def in_one_commit(request: Request | HttpRequest, work: Callable[[], T]) -> T:
    """Run `work` in one transaction; whole and again within the deadline if that was lost (F3).

    Raises DatabaseAway after the request's deadline, or at once if too many wait already.
    """
    with _waiting_at_most(request) as take_place:
        return _committed(request, work, on_loss=take_place)


def _committed(
    request: Request | HttpRequest, work: Callable[[], T], *, on_loss: Callable[[Error], None]
) -> T:
    return committed(
        work,
        deadline=_seconds_left(request),
        clock=wiring.clock(),
        statement=_longest_statement(),
        on_loss=on_loss,
    )


def _longest_statement() -> float:
    return wiring.ages().request_deadline * SHARE


@contextmanager
def _waiting_at_most(request: Request | HttpRequest) -> Iterator[Callable[[Error], None]]:
    """Bound what waits: each statement by its share of the deadline, the waiters by their places.

    Yields what a loss calls: it takes a place, or raises DatabaseAway when there is none.
    """
    places = _Place()
    try:
        if _away.is_set():
            places.take()
        _seconds_left(request)
        with patience(_longest_statement()):
            yield places.lost
    except DatabaseAway:
        raise
    except BaseException as error:
        if not is_lost(error):
            _away.clear()
        raise
    else:
        _away.clear()
    finally:
        places.give_back()


class _Place:
    """A request's place among those that may wait; it has at most one."""

    def __init__(self) -> None:
        self._is_taken = False

    def take(self) -> None:
        if self._is_taken:
            return
        if not _waiters.acquire(blocking=False):
            raise DatabaseAway("too many requests wait for the database")
        self._is_taken = True

    def lost(self, error: Error) -> None:
        if is_away(error):
            _away.set()
        self.take()

    def give_back(self) -> None:
        if self._is_taken:
            _waiters.release()


def _seconds_left(request: Request | HttpRequest) -> float:
    """Of the request's one deadline, counted from its first use of the database."""
    now = wiring.clock().monotonic()
    end: float = request.META.setdefault("checkout.ends", now + wiring.ages().request_deadline)
    return max(0.0, end - now)


def bounded(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """Middleware: no request waits for ever at a database that is silent (F18)."""

    def answer(request: HttpRequest) -> HttpResponse:
        with patience(LONGEST_STATEMENT):
            return get_response(request)

    return answer
