"""Who counts as killed at a failpoint: those whose last words name it, and nobody who died of something else."""

import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from chaos.kills import Deaths, Errand, Place, kill_errand
from chaos.stage import Stage
from checkout.failpoints import last_words

ROOT: Path = Path(__file__).parents[2]
NAME = "relay.marked"
# Two threads come there at once, with output in the buffers of Python that dies with it.
COMES_THERE = """
import sys
from threading import Thread
from checkout.failpoints import enable_from_environment, failpoint
enable_from_environment(sys.argv[1])
sys.stdout.write("buffered")
for _ in range(2):
    Thread(target=failpoint, args=["relay.marked"]).start()
"""


def come_there(log: Path, enabled: str) -> int:
    """Run a process that comes to the failpoint; its exit code."""
    with log.open("ab") as output:
        words = [sys.executable, "-c", COMES_THERE, enabled]
        return subprocess.run(
            words, cwd=ROOT, stdout=output, stderr=output, check=False, timeout=60
        ).returncode


def deaths(folder: Path, *names: str) -> Deaths:
    restarts = count()
    processes = SimpleNamespace(
        log=lambda name: folder / name, starts=lambda _: 10 * next(restarts)
    )
    return Deaths(cast(Stage, SimpleNamespace(processes=processes)), Place(NAME, names, ("F5",)))


def test_each_process_that_its_failpoint_kills_is_one_death(tmp_path: Path) -> None:
    come_there(tmp_path / "first", f"{NAME}=kill")
    counted = deaths(tmp_path, "first", "second")

    codes = [come_there(tmp_path / name, f"{NAME}=kill") for name in ("first", "second", "first")]

    assert codes == [-signal.SIGKILL] * 3
    assert counted.count() == 3, "those of before are not among them"


def test_deaths_of_another_cause_are_none_at_the_failpoint(tmp_path: Path) -> None:
    """A restart, a worker that hung and its master killed, the hard time limit, another failpoint."""
    counted = deaths(tmp_path, "web")
    (tmp_path / "web").write_bytes(
        b"[ERROR] Worker (pid:7) was sent SIGKILL! Perhaps out of memory?\n"
        b"Process 'ForkPoolWorker-1' pid:8 exited with 'signal 9 (SIGKILL)'\n"
        + last_words("relay.before_send")
    )

    assert counted.count() == 0


def test_a_process_whose_standard_error_is_closed_dies_all_the_same(tmp_path: Path) -> None:
    code = f"import os; os.close(2)\n{COMES_THERE}"

    ended = subprocess.run(
        [sys.executable, "-c", code, f"{NAME}=kill"], cwd=ROOT, check=False, timeout=60
    )

    assert ended.returncode == -signal.SIGKILL


def test_a_command_that_something_else_killed_is_none_of_the_failpoint_s(tmp_path: Path) -> None:
    said = ["", last_words("statement.copied").decode()]

    def manage(*_: str, **__: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess([], -signal.SIGKILL, "", said.pop())

    outcome = kill_errand(Errand("statement.copied", ("import_statement",), ("F17",), at_once=2))(
        cast(Stage, SimpleNamespace(manage=manage))
    )

    assert outcome.kills == {"statement.copied": 1}
    assert outcome.unfulfilled.startswith("ended otherwise: -9")
