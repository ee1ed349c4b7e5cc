"""What the reader sees while it runs: a line for each phase that ended, and one for the present phase.

The present phase's line moves only on a terminal, and it is one line high: the supervisor of the stack
writes to the same terminal whenever it likes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from checkout.clock import Clock


@dataclass
class Phase:
    """One phase of the story; `say` replaces what stands behind its title."""

    show: Callable[[str], None]
    said: str = ""

    def say(self, text: str) -> None:
        self.said = text
        self.show(text)


@dataclass(frozen=True)
class Screen:
    """The console, with the time since the story began in front of each line."""

    console: Console
    clock: Clock
    begun: float  # monotonic seconds

    @contextmanager
    def phase(self, title: str) -> Iterator[Phase]:
        """A phase begins here and has ended with the block; its last words stay on the screen."""
        begun = self.clock.monotonic()
        columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        # Off a terminal it shows nothing at all.
        with Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as progress:
            task = progress.add_task(title)
            phase = Phase(
                lambda text: progress.update(task, description=escape(f"{title}: {text}"))
            )
            yield phase
        now = self.clock.monotonic()
        self.console.print(
            f"{now - self.begun:6.1f} s  {escape(title)}: {escape(phase.said)}"
            f" [dim]({now - begun:.1f} s)[/]",
            highlight=False,
            soft_wrap=True,
        )
