"""One child process: dies with its parent, is stopped in order, is killed with its children.

Children are started through `setpriv --pdeathsig`, because the kernel forgets a death signal that was set
before the user changed. The signal is sent when the *thread* that started the child ends, so start children
from the main thread.
"""

import functools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

POLL_SECONDS = 0.02
KILL_SECONDS = 5


class NotStarted(Exception):
    """A process ended, or did not answer in time; the text ends with the last lines of its log."""


class Process:
    """One command as a child process, its output appended to `log` (or inherited, with `log=None`).

    `death_signal` is what the child gets when this process dies, `user` the unprivileged user it runs as.
    A process can be started again after it ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None,
        user: str | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
        cwd: Path | None = None,
    ) -> None:
        self.command = list(command)
        self.env = env
        self.log = log
        self.user = user
        self.death_signal = death_signal
        self.cwd = cwd
        self.started = 0.0
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the last start, 0 before the first."""
        return self._child.pid if self._child else 0

    @property
    def exit_code(self) -> int | None:
        """The exit code of the last start; negative for a signal, None while it runs."""
        return self._child.poll() if self._child else None

    def start(self) -> None:
        """Start the command and return at once."""
        output = open(self.log, "ab") if self.log else None  # noqa: SIM115  (closed below)
        try:
            self._child = subprocess.Popen(
                [*launcher(death_signal=self.death_signal, user=self.user), *self.command],
                env=self.env,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,  # Ctrl-C in a terminal reaches the parent alone
            )
            self.started = started(pid=self._child.pid)
        finally:
            if output:
                output.close()

    def start_and_wait(self, *, answers: Callable[[], bool], seconds: float) -> None:
        """Start, and return once `answers()` is true; raises NotStarted when it ends or `seconds` pass."""
        self.start()
        deadline = time.monotonic() + seconds
        while not answers():
            if not self.alive:
                raise NotStarted(f"{self._name} ended with {self.exit_code}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise NotStarted(f"{self._name} gave no answer in {seconds:g} s\n{self.log_tail()}")
            time.sleep(POLL_SECONDS)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone; nothing happens when it has ended."""
        if self._child and self._child.poll() is None:
            self._child.send_signal(number)

    def wait(self, *, seconds: float) -> bool:
        """Wait for the end; False when it still runs after `seconds`."""
        if self._child is None:
            return True
        try:
            self._child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, *, with_signal: signal.Signals = signal.SIGTERM, seconds: float = 20) -> None:
        """End the process in order, or kill it after `seconds`; what it leaves behind is killed."""
        self.send_signal(with_signal)
        self.wait(seconds=seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the process and everything it started, also when it has ended itself."""
        if self._child is None:
            return
        kill_remains(pid=self._child.pid, since=self.started)
        self._child.wait()

    def log_tail(self, *, lines: int = 20) -> str:
        """The last lines of the log, for an error message."""
        return tail(path=self.log, lines=lines) if self.log else ""

    @property
    def _name(self) -> str:
        return Path(self.command[0]).name


def launcher(*, death_signal: signal.Signals, user: str | None) -> list[str]:
    """The words before a command that tie it to its parent's life and give it its user."""
    if not has_setpriv():
        if user:
            raise NotStarted(
                "setpriv is missing (package util-linux): root cannot start PostgreSQL without it"
            )
        return []
    words = ["setpriv", "--pdeathsig", death_signal.name.removeprefix("SIG")]
    if user:
        words += ["--reuid", user, "--regid", str(group_of(user=user)), "--clear-groups"]
    return [*words, "--"]


@functools.cache
def has_setpriv() -> bool:
    """Whether a setpriv that knows death signals is here (util-linux; BusyBox's does not)."""
    if shutil.which("setpriv") is None:
        return False
    probe = subprocess.run(
        ["setpriv", "--pdeathsig", "TERM", "true"], capture_output=True, check=False
    )
    return probe.returncode == 0


def group_of(*, user: str) -> int:
    """The numeric primary group of a user."""
    return pwd.getpwnam(user).pw_gid


def started(*, pid: int) -> float:
    """When a process started (seconds since 1970), 0 when it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def remains(*, pid: int, since: float) -> list[psutil.Process]:
    """What is left of a child that started at `since`: itself, its descendants, its session.

    Nothing, when the pid belongs to someone else by now.
    """
    now = started(pid=pid)
    if now not in (0.0, since):
        return []
    found = {member for member in session_members(session=pid) if started(pid=member.pid) >= since}
    if now:
        with suppress(psutil.NoSuchProcess):
            found |= {psutil.Process(pid), *psutil.Process(pid).children(recursive=True)}
    return [process for process in found if not is_gone(process)]


def is_gone(process: psutil.Process) -> bool:
    """Whether a process ended; one that waits to be reaped did (in a container perhaps for ever)."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(processes: Sequence[psutil.Process], *, seconds: float) -> bool:
    """Wait for the end of processes that need not be our children; False when one outlives the time."""
    deadline = time.monotonic() + seconds
    while not all(is_gone(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def kill_remains(*, pid: int, since: float) -> None:
    """SIGKILL a child and everything it started, and wait for their end.

    The child is stopped first, so that it starts no more.
    """
    if started(pid=pid) == since:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    members = remains(pid=pid, since=since)
    for member in members:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    wait_until_gone(members, seconds=KILL_SECONDS)


def session_members(*, session: int) -> list[psutil.Process]:
    """Every process of a session, whose leader may have died."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session:
                members.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return members


def tail(*, path: Path, lines: int) -> str:
    """The last lines of a file, or nothing when it is not there."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def python_environment() -> dict[str, str]:
    """This process's environment without what would lead a child's Python or psql astray."""
    unwanted = ("PG", "PYTHONHOME", "PYTHONSTARTUP")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)} | {
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        )
    }
