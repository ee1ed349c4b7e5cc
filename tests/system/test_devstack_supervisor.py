"""The supervisor keeps its children running, and leaves none behind."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

import psutil
import pytest

from devstack.control import NotRunning, ask, socket_path
from devstack.ports import free_port
from devstack.process import is_gone
from tests.system.users import PROJECT, Runner, runner
from tests.waiting import wait_for

__all__ = ["runner"]

pytestmark = pytest.mark.system
SCRIPT = "tests/system/devstack_script.py"


class Stack:
    """A supervisor in a process of its own, and what it answers on its control socket."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.home = runner.home / "home"
        copies = [*runner.home.glob(f"copies-*/project/{SCRIPT}")]
        self.script = str(copies[0] if copies else PROJECT / SCRIPT)
        self.started: list[subprocess.Popen[str]] = []

    def start(self, **options: object) -> "subprocess.Popen[str]":
        process = self.runner.start([self.script, str(self.home), json.dumps(options)])
        self.started.append(process)
        return process

    def ask(self, command: str) -> dict[str, Any]:
        return ask(socket_path(self.home), command)

    def service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("status")["services"][name]
        return found

    def is_ready(self) -> bool:
        try:
            return bool(self.ask("status")["ready"])
        except NotRunning:
            return False

    def is_up(self, name: str) -> bool:
        return bool(self.service(name)["state"] == "up")

    def wait_until_ready(self) -> None:
        wait_for(self.is_ready, 60, "the stack is up")

    def pids(self) -> list[psutil.Process]:
        """The supervisor, its children and theirs."""
        supervisor = psutil.Process(self.ask("status")["pid"])
        return [supervisor, *supervisor.children(recursive=True)]


@pytest.fixture
def stack(runner: Runner) -> Iterator[Stack]:
    stack = Stack(runner)
    yield stack
    for process in stack.started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.mark.parametrize("runner", ["ordinary user"], indirect=True)
class TestAnyUser:
    """What does not depend on who runs it is shown for one user."""

    def test_a_killed_child_is_started_again_and_its_set_up_repeated(self, stack: Stack) -> None:
        stack.start()
        stack.wait_until_ready()
        first = stack.service("family")["pid"]

        os.kill(first, signal.SIGKILL)

        wait_for(lambda: stack.service("family")["pid"] not in {None, first}, 10, "a new family")
        repeated = stack.home / "again.txt"
        wait_for(lambda: repeated.read_text().count("once") == 2, 10, "the set-up ran again")

    def test_sigterm_ends_everything(self, stack: Stack) -> None:
        supervisor = stack.start()
        stack.wait_until_ready()
        family = stack.pids()

        supervisor.terminate()
        out, _ = supervisor.communicate(timeout=20)

        assert supervisor.returncode == 0, out
        assert len(family) == 3
        assert all(is_gone(process) for process in family)

    def test_ctrl_c_works_where_the_shell_started_it_with_sigint_ignored(
        self, stack: Stack
    ) -> None:
        words = [
            "-c",
            f"import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"
            f"os.execv(sys.executable, [sys.executable, {stack.script!r}, {str(stack.home)!r}, '{{}}'])",
        ]
        supervisor = stack.runner.start(words)
        stack.started.append(supervisor)
        stack.wait_until_ready()

        supervisor.send_signal(signal.SIGINT)

        out, _ = supervisor.communicate(timeout=20)
        assert supervisor.returncode == 0, out

    def test_a_second_ctrl_c_kills(self, stack: Stack) -> None:
        supervisor = stack.start(stubborn="trap '' TERM; while :; do sleep 1; done")
        stack.wait_until_ready()
        family = stack.pids()

        supervisor.send_signal(signal.SIGINT)
        lines = supervisor.stdout
        assert lines is not None
        wait_for(lambda: "stopping" in lines.readline(), 10, "it says that it stops")
        supervisor.send_signal(signal.SIGINT)
        out, _ = supervisor.communicate(timeout=10)

        assert "stubborn is killed" in out
        assert all(is_gone(process) for process in family)

    def test_the_next_start_clears_what_a_kill_left_behind(self, stack: Stack) -> None:
        killed = stack.start(stubborn="trap '' TERM; while :; do sleep 1; done")
        stack.wait_until_ready()
        orphans = stack.pids()[1:]

        killed.kill()
        killed.communicate()
        left = [process for process in orphans if not is_gone(process)]
        stack.start()
        stack.wait_until_ready()

        assert len(left) >= 2  # the stubborn one, and the grandchild of the family
        assert all(is_gone(process) for process in orphans)

    def test_a_second_start_is_refused_with_the_pid_of_the_first(self, stack: Stack) -> None:
        first = stack.start()
        stack.wait_until_ready()

        out, _ = stack.start().communicate(timeout=20)

        assert f"already runs as pid {first.pid}" in out
        assert stack.is_ready()

    def test_a_taken_port_names_its_holder(self, stack: Stack) -> None:
        port = free_port()
        holder = stack.runner.start(["-m", "http.server", str(port), "--bind", "127.0.0.1"])
        stack.started.append(holder)
        wait_for(lambda: psutil.Process(holder.pid).net_connections(), 10, "the holder listens")

        out, _ = stack.start(port=port).communicate(timeout=20)

        assert f"port {port} of web is taken by pid {holder.pid}" in out
        assert "http.server" in out
        assert "set WEB_PORT" in out

    def test_a_start_that_fails_names_the_part_and_shows_its_log(self, stack: Stack) -> None:
        supervisor = stack.start(broken="echo the disk is on fire; exit 3")
        out, _ = supervisor.communicate(timeout=20)

        assert supervisor.returncode == 1
        assert "failed: broken ended with exit code 3" in out
        assert "the last lines of" in out
        assert out.count("the disk is on fire") >= 2
        with pytest.raises(NotRunning):
            stack.ask("status")

    def test_an_interrupted_start_says_what_it_waited_for(self, stack: Stack) -> None:
        supervisor = stack.start(last="echo warming up; sleep 1000")
        wait_for((stack.home / "again.txt").exists, 10, "the start goes on")
        wait_for(lambda: stack.service("last")["pid"], 10, "the last step runs")

        supervisor.send_signal(signal.SIGINT)
        out, _ = supervisor.communicate(timeout=20)

        assert "interrupted while last was starting; its log:\nwarming up" in out

    def test_the_last_step_decides_the_exit_code(self, stack: Stack) -> None:
        supervisor = stack.start(last="exit 4")

        out, _ = supervisor.communicate(timeout=20)

        assert supervisor.returncode == 4
        assert "hello reader" in out

    def test_kill_by_command_ends_the_whole_child_before_it_answers(self, stack: Stack) -> None:
        stack.start()
        stack.wait_until_ready()
        family = stack.pids()[1:]

        answer = stack.ask("kill family")

        assert answer == {"ok": True, "pid": family[0].pid}
        assert all(is_gone(process) for process in family)
        wait_for(lambda: stack.service("family")["state"] == "up", 10, "it is up again")

    def test_pause_answers_when_it_is_stopped_and_starts_it_again_in_time(
        self, stack: Stack
    ) -> None:
        stack.start()
        stack.wait_until_ready()

        stack.ask("pause family 0.5")

        paused = stack.service("family")
        assert (paused["state"], paused["pid"]) == ("paused", None)
        wait_for(lambda: stack.service("family")["state"] == "up", 10, "it is up again")
        assert stack.service("family")["starts"] == 2

    @pytest.mark.parametrize("command", ["stop", "end"])
    def test_what_is_stopped_or_killed_for_good_stays_away_until_it_is_started(
        self, stack: Stack, command: str
    ) -> None:
        stack.start()
        stack.wait_until_ready()

        stack.ask(f"{command} family")
        wait_for(lambda: stack.service("family")["pid"] is None, 10, "it is away")
        pause = stack.service("family")["state"]
        stack.ask("start family")

        wait_for(lambda: stack.is_up("family"), 10, "it is up again")
        assert pause == "paused"
        assert stack.service("family")["starts"] == 2

    def test_a_start_may_give_variables_which_the_next_one_takes_back(self, stack: Stack) -> None:
        """A failpoint is switched on for a process in this way, and off again."""
        stack.start()
        stack.wait_until_ready()
        stack.ask("start family FAILPOINTS=relay.marked=kill")
        wait_for(lambda: stack.is_up("family"), 10, "it is up with the variable")
        with_it = psutil.Process(stack.service("family")["pid"]).environ()

        stack.ask("start family")
        wait_for(lambda: stack.is_up("family"), 10, "it is up without")

        without = psutil.Process(stack.service("family")["pid"]).environ()
        assert with_it["FAILPOINTS"] == "relay.marked=kill"
        assert "FAILPOINTS" not in without

    def test_a_part_that_is_held_does_not_keep_the_others_from_being_up(self, stack: Stack) -> None:
        stack.start(held="sleep 1000")
        stack.wait_until_ready()
        before = stack.service("held")

        stack.ask("start held")

        wait_for(lambda: stack.is_up("held"), 10, "it is up")
        assert (before["state"], before["starts"]) == ("paused", 0)

    @pytest.mark.parametrize(
        "command",
        [
            "",
            "dance",
            "start nobody",
            "start family FAILPOINTS",
            "stop",
            "end nobody",
            "kill",
            "kill nobody",
            "pause family",
            "pause family soon",
            "pause again 1",
        ],
    )
    def test_a_command_that_makes_no_sense_is_refused(self, stack: Stack, command: str) -> None:
        stack.start()
        stack.wait_until_ready()

        assert "error" in stack.ask(command)
        assert stack.is_ready()

    def test_down_by_command_stops_in_order(self, stack: Stack) -> None:
        supervisor = stack.start()
        stack.wait_until_ready()

        assert stack.ask("down") == {"ok": True, "pid": supervisor.pid}

        supervisor.communicate(timeout=20)
        assert supervisor.returncode == 0


def test_the_real_servers_come_back_after_a_kill_and_stop_in_order(stack: Stack) -> None:
    supervisor = stack.start(servers=True)
    stack.wait_until_ready()
    family = stack.pids()

    for name in ("kafka", "sqs", "postgres"):
        stack.ask(f"kill {name}")
    for name in ("kafka", "sqs", "postgres"):
        wait_for(partial(stack.is_up, name), 30, f"{name} is up again")
    supervisor.send_signal(signal.SIGINT)
    out, _ = supervisor.communicate(timeout=40)

    assert supervisor.returncode == 0, out
    assert "is killed" not in out
    assert all(is_gone(process) for process in family)


def test_the_real_servers_leave_no_orphan_that_the_next_start_does_not_clear(stack: Stack) -> None:
    killed = stack.start(servers=True)
    stack.wait_until_ready()
    orphans = stack.pids()[1:]

    killed.kill()
    killed.communicate()
    stack.start(servers=True)
    stack.wait_until_ready()

    assert len(orphans) > 6
    assert all(is_gone(process) for process in orphans)
