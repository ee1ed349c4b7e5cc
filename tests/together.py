"""Threads that start at once, each with a database connection of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

T = TypeVar("T")
SECONDS = 60


def together(*works: Callable[[], T]) -> list[T | Exception]:
    """Run all at the same moment and wait for all; what one raised stands in its place."""
    barrier = threading.Barrier(len(works))

    def one(work: Callable[[], T]) -> T | Exception:
        try:
            barrier.wait(SECONDS)
            return work()
        except Exception as error:  # noqa: BLE001  the test looks at it
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as threads:
        return [future.result(SECONDS) for future in [threads.submit(one, work) for work in works]]


def somebody_waits_for_a_lock() -> bool:
    """For `wait_for`: a session of this database stands behind another's lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchone()[0])
