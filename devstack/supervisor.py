"""Keeps the processes of the stack running, in front of the reader's eyes, until it is told to stop.

One thread, one loop: start what is due, look who ended, show new log lines, answer the control socket. The
handlers of SIGINT and SIGTERM only count; a second one kills. Children write to log files which the loop
reads, so that nothing blocks on a pipe and nothing is lost when the supervisor itself is killed. They die
with it (setpriv), and what still outlived a kill -9 is ended by the next start, by (pid, start time).
"""

import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from devstack.control import Control, ask, send, socket_path
from devstack.ports import who_holds
from devstack.postgres import NoBinaries
from devstack.process import NotStarted, Process
from devstack.screen import Screen
from devstack.state import (
    Orphan,
    empty,
    end_orphan,
    keep_previous_logs,
    locked,
    read_children,
    write_children,
)

__all__ = ["PortTaken", "Service", "StartFailed", "Supervisor", "ask"]

TICK_SECONDS = 0.05
LOOK_SECONDS = 0.2  # between two looks whether a starting child answers
START_SECONDS = 60
BACKOFF_FIRST, BACKOFF_LAST = 0.2, 5.0  # seconds before a restart, doubling
STEADY_SECONDS = 10  # up for this long, a child's next restart is quick again


class PortTaken(Exception):
    """A port is held by someone else; the text names the port, its variable and the holder."""


class StartFailed(Exception):
    """A part did not come up; the text names it and ends with the last 20 lines of its log."""


@dataclass(frozen=True)
class Service:
    """One process of the stack.

    `needs` must be up (or done) before each start. A service that runs `once` is done when it ends with 0, and
    runs again whenever `again_after` came up. Higher tiers are stopped first. `tries` is how often it may end
    before it was up for the first time; after that it is restarted for ever. One that is `held` waits for the
    command `start`.
    """

    name: str
    process: Callable[[], Process]
    prepare: Callable[[], None] = lambda: None
    answers: Callable[[], bool] = lambda: True
    needs: tuple[str, ...] = ()
    port: tuple[str, int] | None = None
    once: bool = False
    again_after: str = ""
    foreground: bool = False
    held: bool = False
    tier: int = 9
    tries: int = 5
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 20


class Child:
    """A service and the process that runs it now."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.process: Process | None = None
        self.state = "paused" if service.held else "waiting"
        self.since = time.monotonic()
        self.due = math.inf if service.held else 0.0
        self.variables: dict[str, str] = {}
        self.starts = 0
        self.was_up = False
        self.failures = 0
        self.pause_seconds = 0.0
        self.reply: socket.socket | None = None

    @property
    def name(self) -> str:
        return self.service.name

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    @property
    def satisfied(self) -> bool:
        """Whether those that need it may start."""
        return self.state == ("done" if self.service.once else "up")

    @property
    def held(self) -> bool:
        """Whether it waits for the command `start`."""
        return self.state == "paused" and self.due == math.inf

    def enter(self, state: str) -> None:
        self.state = state
        self.since = time.monotonic()

    def seconds(self) -> float:
        """How long it has been in its state."""
        return time.monotonic() - self.since


class Supervisor:
    """Runs services from a state folder; `exit_with` names the once-service whose exit code ends it all."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        home: Path,
        greeting: str = "",
        exit_with: str = "",
        quiet: bool = False,
        fresh: bool = False,
        out: TextIO = sys.stdout,
    ) -> None:
        self.home = home
        self.children = {service.name: Child(service) for service in services}
        self.greeting = greeting
        self.exit_with = exit_with
        self.quiet = quiet
        self.fresh = fresh
        self.screen = Screen(names=list(self.children), out=out)
        self.began = time.monotonic()
        self.signals = 0
        self.stopping = False
        self.greeted = False
        self.exit_code = 0

    def run(self) -> int:
        """Start everything, keep it running, stop it in order; returns the exit code.

        1. Take the lock, or raise AlreadyRunning. 2. End what a killed supervisor left. 3. Refuse taken ports.
        4. Run until a signal, `down`, or the end of `exit_with`; a part that does not come up ends the start.
        5. Stop the highest tier first.
        """
        self.home.mkdir(parents=True, exist_ok=True, mode=0o711)
        with locked(self.home):
            self._end_orphans()
            if self.fresh:
                empty(self.home)
            keep_previous_logs(self.home)
            self._refuse_taken_ports()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, self._count_signal)
            with Control(path=socket_path(self.home), answer=self._answer) as control:
                try:
                    while not (self.stopping or self.signals):
                        self._tick()
                        control.wait(seconds=TICK_SECONDS)
                except StartFailed as failure:
                    self.screen.say(f"failed: {failure}")
                    self.exit_code = 1
                finally:
                    if self.signals and not self.greeted:
                        self._tell_unfinished()
                    self._stop_all()
        return self.exit_code

    # --- the loop ---------------------------------------------------------------------------------

    def _tick(self) -> None:
        for child in self.children.values():
            self._step(child)
            if child.process and not child.service.foreground:
                self.screen.follow(child.name, child.process.log, show=not self._silent())
        if not self.greeted and all(
            child.satisfied or child.held
            for child in self.children.values()
            if not child.service.foreground
        ):
            self.greeted = True
            self._say(f"everything is up in {time.monotonic() - self.began:.1f} s")
            self.screen.print(self.greeting)

    def _step(self, child: Child) -> None:
        match child.state:
            case "waiting" if all(self.children[name].satisfied for name in child.service.needs):
                self._launch(child)
            case "backoff" | "paused" if time.monotonic() >= child.due:
                child.enter("waiting")
            case "starting":
                self._watch_start(child)
            case "stopping":
                self._watch_pause(child)
            case "up" if not child.alive:
                self._ended(child)

    def _launch(self, child: Child) -> None:
        try:
            child.service.prepare()
        except (NotStarted, NoBinaries) as failure:
            raise StartFailed(f"{child.name}: {failure}") from failure
        child.process = child.service.process()
        if child.variables:
            child.process.env = {**(child.process.env or os.environ), **child.variables}
        child.process.start()
        child.starts += 1
        child.enter("starting")
        self._remember()

    def _watch_start(self, child: Child) -> None:
        if not child.alive:
            self._ended(child)
        elif child.service.once:
            return
        elif time.monotonic() >= child.due and child.service.answers():
            self._came_up(child)
        elif child.seconds() > START_SECONDS:
            self._say(f"{child.name} gave no answer in {START_SECONDS} s")
            self._process(child).kill()
        elif time.monotonic() >= child.due:
            child.due = time.monotonic() + LOOK_SECONDS

    def _came_up(self, child: Child) -> None:
        self._say(f"{child.name} up in {child.seconds():.1f} s, pid {self._process(child).pid}")
        child.was_up = True
        child.enter("up")
        for other in self.children.values():
            if other.service.again_after == child.name and other.state == "done":
                other.enter("waiting")

    def _ended(self, child: Child) -> None:
        """Done, or again after a pause that doubles; raises StartFailed when it never came up."""
        code = self._process(child).exit_code
        self._process(child).kill()  # what it left behind
        if child.service.once and (code == 0 or child.name == self.exit_with):
            return self._done(child, code=code)
        if child.state == "up" and child.seconds() > STEADY_SECONDS:
            child.failures = 0
        child.failures += 1
        if not child.was_up and child.failures >= child.service.tries:
            return self._give_up(child, code=code)
        wait = min(BACKOFF_FIRST * 2 ** (child.failures - 1), BACKOFF_LAST)
        self._say(f"{child.name} ended with {describe_exit(code)}; started again in {wait:.1f} s")
        self._wait_until(child, "backoff", seconds=wait)
        return None

    def _done(self, child: Child, *, code: int | None) -> None:
        self._say(f"{child.name} done in {child.seconds():.1f} s")
        child.was_up = True
        child.failures = 0
        child.enter("done")
        if child.name == self.exit_with:
            self.exit_code = code if code is not None and code >= 0 else 1
            self.stopping = True
        elif child.service.foreground:
            self.screen.print(self.greeting)

    def _give_up(self, child: Child, *, code: int | None) -> None:
        process = self._process(child)
        child.enter("failed")
        if child.service.foreground:
            self._say(f"{child.name} ended with {describe_exit(code)}; the rest stays up")
            self.screen.print(self.greeting)
            return
        raise StartFailed(
            f"{child.name} ended with {describe_exit(code)}: {' '.join(process.command[:6])}\n"
            f"the last lines of {process.log}:\n{process.log_tail(lines=20)}"
        )

    def _tell_unfinished(self) -> None:
        """Whoever interrupts a start wants to know what it was waiting for."""
        for child in self.children.values():
            if child.state in {"starting", "backoff"}:
                tail = self._process(child).log_tail(lines=20)
                self.screen.say(
                    f"interrupted while {child.name} was {child.state}; its log:\n{tail}"
                )

    def _wait_until(self, child: Child, state: str, *, seconds: float) -> None:
        child.enter(state)
        child.due = time.monotonic() + seconds

    def _silent(self) -> bool:
        """No log lines before everything is up, nor beside a foreground, whose screen they would tear."""
        return (
            self.quiet
            or not self.greeted
            or any(child.service.foreground and child.alive for child in self.children.values())
        )

    def _process(self, child: Child) -> Process:
        assert child.process is not None  # noqa: S101  (every caller looks at a started child)
        return child.process

    def _say(self, text: str) -> None:
        self.screen.say(f"{time.monotonic() - self.began:6.1f} s  {text}")

    def _count_signal(self, *_: object) -> None:
        self.signals += 1

    # --- the control socket -------------------------------------------------------------------------

    def _answer(self, words: list[str], connection: socket.socket) -> dict[str, Any] | None:
        """Carry out one command; None when the answer is sent later."""
        match words:
            case ["status"]:
                return self._status()
            case ["down"]:
                self.stopping = True
                return {"ok": True, "pid": os.getpid()}
            case ["kill", name] if name in self.children:
                return self._kill(self.children[name])
            case ["end", name] if name in self.children:
                return self._end(self.children[name])
            case ["stop", name] if name in self.children:
                return self._pause(self.children[name], seconds=math.inf, connection=connection)
            case ["start", name, *pairs] if name in self.children and all("=" in p for p in pairs):
                return self._start(self.children[name], dict(p.split("=", 1) for p in pairs))
            case ["pause", name, seconds] if name in self.children and is_number(seconds):
                return self._pause(
                    self.children[name], seconds=float(seconds), connection=connection
                )
        names = " ".join(self.children)
        return {
            "error": "say status, down, kill NAME, end NAME, stop NAME, start NAME [VARIABLE=value …]"
            f" or pause NAME SECONDS; names: {names}"
        }

    def _status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "ready": self.greeted,
            "services": {
                child.name: {
                    "state": child.state,
                    "pid": child.process.pid if child.process and child.alive else None,
                    "starts": child.starts,
                    "seconds": round(child.seconds(), 1),
                }
                for child in self.children.values()
            },
        }

    def _kill(self, child: Child) -> dict[str, Any]:
        """SIGKILL the child with all its children; the loop then starts it again."""
        if not child.alive:
            return {"error": f"{child.name} is not running ({child.state})"}
        process = self._process(child)
        process.kill()
        return {"ok": True, "pid": process.pid}

    def _end(self, child: Child) -> dict[str, Any]:
        """SIGKILL the child with all its children; it stays away until it is started."""
        if child.process:
            child.process.kill()
        self._wait_until(child, "paused", seconds=math.inf)
        return {"ok": True}

    def _start(self, child: Child, variables: dict[str, str]) -> dict[str, Any]:
        """Start the child with these variables, this time and whenever it ends; killed if it runs."""
        if child.process:
            child.process.kill()
        child.variables = variables
        child.failures = 0
        child.due = 0.0
        child.enter("waiting")
        return {"ok": True}

    def _pause(
        self, child: Child, *, seconds: float, connection: socket.socket
    ) -> dict[str, Any] | None:
        """Stop the child in order, answer when it has ended, start it again `seconds` later."""
        if child.state not in {"starting", "up"} or child.service.once:
            return {"error": f"{child.name} is not running ({child.state})"}
        child.pause_seconds = seconds
        child.reply = connection
        child.enter("stopping")
        self._process(child).send_signal(child.service.stop_signal)
        return None

    def _watch_pause(self, child: Child) -> None:
        if child.alive and child.seconds() > child.service.stop_seconds:
            self._process(child).kill()
        if not child.alive:
            self._process(child).kill()  # what it left behind
            self._say(f"{child.name} stopped, {describe_pause(child.pause_seconds)}")
            self._wait_until(child, "paused", seconds=child.pause_seconds)
            if child.reply:
                send(child.reply, {"ok": True, "pid": self._process(child).pid})
                child.reply = None

    # --- the end ------------------------------------------------------------------------------------

    def _stop_all(self) -> None:
        self.screen.say("stopping (Ctrl-C again kills)")
        for tier in sorted({child.service.tier for child in self.children.values()}, reverse=True):
            self._stop([c for c in self.children.values() if c.service.tier == tier and c.process])
        (self.home / "children.json").unlink(missing_ok=True)
        self.screen.say("stopped")

    def _stop(self, children: list[Child]) -> None:
        """Stop one tier; what is not gone in its time, or at a second signal, is killed."""
        began, first_signals = time.monotonic(), max(self.signals, 1)
        for child in children:
            self._process(child).send_signal(child.service.stop_signal)
        while any(child.alive for child in children):
            for child in children:
                late = time.monotonic() - began > child.service.stop_seconds
                if child.alive and (late or self.signals > first_signals):
                    self.screen.say(f"{child.name} is killed")
                    self._process(child).kill()
            time.sleep(TICK_SECONDS)
        for child in children:
            self._process(child).kill()  # what it left behind

    # --- what a killed supervisor leaves ------------------------------------------------------------

    def _remember(self) -> None:
        """Write who runs, so that the next start can end them even if this process is killed now."""
        known = [
            Orphan(
                name=child.name,
                pid=child.process.pid,
                started=child.process.started,
                stop_signal=child.service.stop_signal,
            )
            for child in self.children.values()
            if child.process and child.process.alive
        ]
        write_children(self.home / "children.json", known)

    def _end_orphans(self) -> None:
        for orphan in read_children(self.home / "children.json"):
            if end_orphan(orphan):
                self.screen.say(
                    f"ended {orphan.name}, pid {orphan.pid}, which a killed run left behind"
                )
        (self.home / "children.json").unlink(missing_ok=True)

    def _refuse_taken_ports(self) -> None:
        for child in self.children.values():
            if child.service.port:
                variable, port = child.service.port
                if holder := who_holds(port):
                    raise PortTaken(
                        f"port {port} of {child.name} is taken by {holder}; end it, or set {variable}"
                    )


def describe_exit(code: int | None) -> str:
    """`exit code 1`, or the name of the signal."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def describe_pause(seconds: float) -> str:
    """When a stopped child comes back."""
    return "until it is started" if seconds == math.inf else f"starts again in {seconds:g} s"


def is_number(text: str) -> bool:
    """Whether a word of a command is a number of seconds."""
    return text.replace(".", "", 1).isdigit()
