"""The hands: the supervisor's control socket, PostgreSQL by SQL, the business clock, waiting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Final

import psycopg

from chaos.stage import Stage
from checkout.clock import Clock
from devstack.control import NotRunning, ask

CLOCK: Final = Clock()
UP_SECONDS: Final = 90.0
LOOK_SECONDS: Final = 0.05


class Interrupted(Exception):
    """The run is being ended."""


class NotYet(Exception):
    """What a scenario waited for did not come in time; the text says what."""


class Refused(Exception):
    """The supervisor did not do what it was told; the text is its own answer."""


@dataclass(frozen=True)
class Supervised:
    """The stack's processes through its control socket; see stage.Processes. `ended` ends each wait."""

    home: Path
    ended: Event

    def kill(self, name: str) -> None:
        self._ask(f"kill {name}")

    def stop(self, name: str) -> None:
        self._ask(f"stop {name}")

    def end(self, name: str) -> None:
        self._ask(f"end {name}")

    def start(self, name: str, **variables: str) -> None:
        self.launch(name, **variables)
        self.wait_until_up(name)

    def launch(self, name: str, **variables: str) -> None:
        """As `start`, without waiting until it is up."""
        self._ask(
            " ".join(["start", name, *(f"{key}={value}" for key, value in variables.items())])
        )

    def wait_until_up(self, name: str) -> None:
        """Return when it is up (or done); raises NotYet."""
        deadline = CLOCK.monotonic() + UP_SECONDS
        while self.state(name) not in {"up", "done"}:
            if CLOCK.monotonic() > deadline:
                raise NotYet(f"{name} is not up after {UP_SECONDS:g} s, see {self.log(name)}")
            self.sleep(LOOK_SECONDS)

    def pid(self, name: str) -> int | None:
        found: int | None = self._service(name)["pid"]
        return found

    def starts(self, name: str) -> int:
        return int(self._service(name)["starts"])

    def state(self, name: str) -> str:
        return str(self._service(name)["state"])

    def ready(self) -> bool:
        """Whether everything that is not held back came up."""
        return bool(self._ask("status")["ready"])

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def sleep(self, seconds: float) -> None:
        """Wait; raises Interrupted when the run is being ended."""
        if self.ended.wait(seconds):
            raise Interrupted

    def _service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("status")["services"][name]
        return found

    def _ask(self, command: str) -> dict[str, Any]:
        if self.ended.is_set():
            raise Interrupted
        try:
            answer = ask(self.home / "control", command)
        except NotRunning as gone:
            raise Interrupted from gone
        if "error" in answer:
            raise Refused(f"{command}: {answer['error']}")
        return answer


def rows(stage: Stage, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
    """Ask the primary, beside the proxies, as the owner; a statement without rows gives none."""
    with psycopg.connect(stage.admin_url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def count(stage: Stage, statement: str, *values: object) -> int:
    """The one number that a statement answers."""
    [(number,)] = rows(stage, statement, *values)
    return int(number)


def wait_until(
    stage: Stage, true: Callable[[], object], *, seconds: float, what: str, look: float = 0.2
) -> float:
    """Wait for something; returns how long it took (seconds). Raises NotYet.

    PostgreSQL being away meanwhile is no reason to give up.
    """
    began = CLOCK.monotonic()
    while not _holds(true):
        if CLOCK.monotonic() - began > seconds:
            raise NotYet(f"{what}: not after {seconds:g} s")
        stage.sleep(look)
    return CLOCK.monotonic() - began


def _holds(true: Callable[[], object]) -> bool:
    try:
        return bool(true())
    except psycopg.OperationalError:
        return False


def business_ahead(stage: Stage) -> float:
    """How far the business clock is ahead of the real one, in seconds."""
    text = stage.clock_file.read_text("ascii") if stage.clock_file.exists() else ""
    return float(text or "0")


def move_clock(stage: Stage, *, seconds: float) -> None:
    """Move the business clock of every process at once, by so much."""
    draft = stage.clock_file.with_suffix(".new")
    draft.write_text(str(business_ahead(stage) + seconds), "ascii")
    draft.replace(stage.clock_file)
