"""A progress bar for whatever takes longer than two seconds, and nothing for what does not."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Final, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from checkout.clock import Clock

SHOWN_AFTER: Final = 2.0

# Told how many more are done.
Advance: TypeAlias = Callable[[int], None]


class SlowProgress:
    """Counts steps of a known total on stderr; the bar appears after two seconds."""

    def __init__(self, *, what: str, total: int, clock: Clock) -> None:
        self._clock = clock
        self._begun = clock.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(file=sys.stderr),
        )
        self._task = self._progress.add_task(what, total=total)
        # Moving the bar costs more than a row does.
        self._at_once = max(1, total // 1000)
        self._since = 0

    def __enter__(self) -> "SlowProgress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._show()
        if self._progress.live.is_started:
            self._progress.stop()

    def advance(self, steps: int = 1) -> None:
        """Note that so many more are done."""
        self._since += steps
        if self._since >= self._at_once:
            self._show()

    def _show(self) -> None:
        late = self._clock.monotonic() - self._begun > SHOWN_AFTER
        if late and self._since and not self._progress.live.is_started:
            self._progress.start()
        self._progress.advance(self._task, self._since)
        self._since = 0


def bars(clock: Clock) -> Callable[[str, Callable[[], int]], AbstractContextManager[Advance]]:
    """For a use case of several parts: opens a bar of what a part is called and counts."""

    @contextmanager
    def bar(what: str, count: Callable[[], int]) -> Iterator[Advance]:
        with SlowProgress(what=what, total=count(), clock=clock) as shown:
            yield shown.advance

    return bar
