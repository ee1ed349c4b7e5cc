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
