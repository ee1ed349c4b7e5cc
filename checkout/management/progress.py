"""A progress bar for whatever takes longer than two seconds, and nothing for what does not."""

import sys
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from checkout.clock import Clock

SHOWN_AFTER: Final = 2.0


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

    def __enter__(self) -> "SlowProgress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    def advance(self, steps: int = 1) -> None:
        """Note that so many more are done."""
        late = self._clock.monotonic() - self._begun > SHOWN_AFTER
        if late and not self._progress.live.is_started:
            self._progress.start()
        self._progress.advance(self._task, steps)
