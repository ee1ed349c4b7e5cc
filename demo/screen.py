"""What the reader sees while it runs: one line a phase, with what it is doing and for how long."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from checkout.clock import Clock


@dataclass
class Phase:
    """One phase of the story; `say` replaces what stands behind its title."""

    progress: Progress
    task: TaskID
    said: str = ""

    def say(self, text: str) -> None:
        self.said = text
        self.progress.update(self.task, detail=text)


@dataclass
class Screen:
    """The console, live where it is a terminal; elsewhere each phase is one line when it ends."""

    console: Console
    clock: Clock
    progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        self.progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TimeElapsedColumn(),
            TextColumn("[bold]{task.description}[/]  {task.fields[detail]}"),
            console=self.console,
        )

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the phases while the block runs."""
        if not self.console.is_terminal:
            yield
            return
        with self.progress:
            yield

    @contextmanager
    def phase(self, title: str) -> Iterator[Phase]:
        """A phase begins here and has ended with the block."""
        begun = self.clock.monotonic()
        phase = Phase(self.progress, self.progress.add_task(title, total=1, detail=""))
        yield phase
        self.progress.update(phase.task, completed=1)
        if not self.console.is_terminal:
            seconds = self.clock.monotonic() - begun
            self.console.print(f"{seconds:6.1f} s  {title}: {phase.said}", soft_wrap=True)
