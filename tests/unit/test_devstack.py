"""Ports, preflight, the look-up of PostgreSQL's binaries, the state folder, the stack's environment."""

import importlib.util
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from devstack import install, postgres, preflight, stack
from devstack.__main__ import main, parser
from devstack.ports import free_port, who_holds
from devstack.process import started
from devstack.state import (
    AlreadyRunning,
    Orphan,
    empty,
    end_orphan,
    keep_previous_logs,
    locked,
    read_children,
    write_children,
)

# --- ports -----------------------------------------------------------------------------------------


def test_a_free_port_is_below_those_the_kernel_gives_to_outgoing_connections() -> None:
    port = free_port()

    assert 1024 < port < 32768
    assert who_holds(port) == ""


def test_the_holder_of_a_port_is_named_with_pid_and_command() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        holder = who_holds(server.getsockname()[1])

    command = " ".join(psutil.Process().cmdline())
    assert holder == f"pid {os.getpid()} ({command[:100]})"


# --- preflight -------------------------------------------------------------------------------------


def test_nothing_is_missing_here(tmp_path: Path) -> None:
    assert preflight.before_install(project=tmp_path) == []


@pytest.mark.parametrize("version", [(3, 6), (3, 10)])
def test_an_old_python_is_named_with_its_version(
    version: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0))

    [problem] = preflight.before_install(project=tmp_path)

    assert "Python 3.11 or newer is missing" in problem
    assert f"is {version[0]}.{version[1]}" in problem


def test_a_missing_venv_module_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "ensurepip" else found(name),
    )

    [problem] = preflight.before_install(project=tmp_path)

    assert "apt install python3-venv" in problem


def test_a_full_disk_says_how_much_is_needed(tmp_path: Path) -> None:
    [problem] = preflight.disk(folder=tmp_path, wanted=2**60)

    assert "is nearly full" in problem
    assert str(2**60 // 1024**2) in problem


@pytest.mark.skipif(os.geteuid() != 0, reason="the checks of root's start need root")
def test_root_is_told_that_postgres_cannot_enter_the_state_folder(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)

    [problem] = preflight.before_start(home=private)

    assert f"the user nobody cannot enter {private}" in problem


@pytest.mark.skipif(os.geteuid() != 0, reason="the checks of root's start need root")
def test_root_is_told_that_setpriv_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    [problem] = preflight.as_root(home=tmp_path)

    assert problem.startswith("setpriv is missing")


def test_the_files_read_before_the_set_up_are_plain_enough_for_an_old_python() -> None:
    for module in (preflight, install):
        source = Path(str(module.__file__)).read_text()

        compile(source, str(module.__file__), "exec", dont_inherit=True)
        assert "match " not in source
        assert ":=" not in source


def test_a_half_made_environment_is_not_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "VENV", tmp_path)
    without_python = install.usable()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/gone/python3")
    without_its_base = install.usable()
    (tmp_path / "bin" / "python").unlink()
    (tmp_path / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "python").chmod(0o755)
    without_pip = install.usable()

    assert (without_python, without_its_base, without_pip) == (False, False, False)


def test_pins_are_counted_once() -> None:
    assert 50 < install.count_pins() < 200


# --- PostgreSQL's binaries -------------------------------------------------------------------------


def binaries_of(folder: Path, *, version: str) -> Path:
    """A folder with a server that only says its version."""
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


def test_pg_bin_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = binaries_of(tmp_path / "bin", version="16.4")
    monkeypatch.setenv("PG_BIN", str(given))

    assert postgres.find_binaries() == given


@pytest.mark.parametrize(
    ("version", "words"), [("14.9", "is PostgreSQL 14"), ("", "holds no postgres")]
)
def test_a_wrong_pg_bin_is_refused_and_nothing_else_taken(
    version: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = binaries_of(tmp_path / "bin", version=version) if version else tmp_path
    monkeypatch.setenv("PG_BIN", str(given))

    with pytest.raises(postgres.NoBinaries, match=words):
        postgres.find_binaries()


def test_without_pg_bin_the_wheel_comes_before_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PG_BIN", raising=False)

    assert [postgres.find_binaries()] == postgres.embedded()


def test_the_newest_system_install_that_is_not_too_old_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [binaries_of(tmp_path / v / "bin", version=f"{v}.1") for v in ("14", "15", "17")]
    monkeypatch.setattr(Path, "glob", lambda _, pattern: found if pattern == "*/bin" else [])
    monkeypatch.setenv("PATH", "/bin")

    assert postgres.installed() == [found[2], found[1]]


# --- the state folder ------------------------------------------------------------------------------


def test_only_one_holds_the_lock_and_it_is_free_afterwards(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_children_are_remembered(tmp_path: Path) -> None:
    children = [Orphan(name="web", pid=4711, started=1.5, stop_signal=signal.SIGINT)]

    write_children(tmp_path / "children.json", children)

    assert read_children(tmp_path / "children.json") == children


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '[{"name": "web"}]', '[{"pid": 1, "stop_signal": 99}]']
)
def test_a_broken_state_file_remembers_nobody(text: str, tmp_path: Path) -> None:
    (tmp_path / "children.json").write_text(text)

    assert read_children(tmp_path / "children.json") == []


def test_an_orphan_is_ended_and_a_later_process_of_the_same_pid_is_not() -> None:
    child = subprocess.Popen(["sleep", "100"], start_new_session=True)
    since = started(pid=child.pid)

    spared = end_orphan(
        Orphan(name="x", pid=child.pid, started=since - 100, stop_signal=signal.SIGTERM)
    )
    running = child.poll() is None
    ended = end_orphan(Orphan(name="x", pid=child.pid, started=since, stop_signal=signal.SIGTERM))

    assert (spared, running, ended) == (False, True, True)
    assert child.wait(timeout=5) == -15


def test_a_fresh_start_keeps_the_lock_the_secrets_and_the_ports(tmp_path: Path) -> None:
    for name in ("lock", "secrets.json", "ports.json", "clock"):
        (tmp_path / name).touch()
    (tmp_path / "postgres").mkdir()

    empty(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "lock",
        "ports.json",
        "secrets.json",
    ]


def test_logs_of_the_run_before_are_kept(tmp_path: Path) -> None:
    keep_previous_logs(tmp_path)
    (tmp_path / "logs" / "web.log").write_text("old")

    keep_previous_logs(tmp_path)

    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["web.log.1"]


# --- the stack -------------------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> stack.Stack:
    """A stack of a person who gave no address."""
    for names in stack.GIVEN_BY.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("DEVSTACK_SOCKET", raising=False)
    return stack.open_stack(home=tmp_path / "home", ports=stack.free_ports())


def test_secrets_are_made_once_and_read_by_their_owner_alone(opened: stack.Stack) -> None:
    path = opened.home / "secrets.json"

    assert stack.keep_secrets(path) == opened.secrets
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(set(opened.secrets.values())) == len(stack.SECRETS)


def test_a_new_secret_joins_those_that_are_there(opened: stack.Stack) -> None:
    path = opened.home / "secrets.json"
    known = dict(opened.secrets)
    del known["STAFF_PASSWORD"]
    path.write_text(json.dumps(known))

    assert stack.keep_secrets(path) == known | {
        "STAFF_PASSWORD": stack.keep_secrets(path)["STAFF_PASSWORD"]
    }


def test_every_process_gets_our_addresses(opened: stack.Stack) -> None:
    variables = stack.environment(opened)

    assert variables["DATABASE_URL"].endswith(f"@127.0.0.1:{opened.ports['postgres']}/checkout")
    assert variables["SQS_ENDPOINT_URL"] == f"http://127.0.0.1:{opened.ports['sqs']}"
    assert variables["DEVSTACK_SOCKET"] == str(opened.home / "control")


def test_a_part_with_a_given_address_is_not_started(
    opened: stack.Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://a:b@db.example:5432/c")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")

    services = {service.name: service for service in stack.services(opened)}

    assert not {"postgres", "kafka"} & set(services)
    assert services["migrate"].needs == ()
    assert services["relay-kafka"].needs == ("migrate", "topics")
    assert stack.environment(opened)["DATABASE_DIRECT_URL"] == "postgresql://a:b@db.example:5432/c"


def test_our_own_variables_in_a_shell_are_not_taken_for_given_addresses(
    opened: stack.Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in stack.environment(opened).items():
        monkeypatch.setenv(name, value)

    assert "postgres" in {service.name for service in stack.services(opened)}


def test_every_need_is_a_service_and_servers_stop_last(opened: stack.Stack) -> None:
    services = stack.services(opened, demonstrate=("demonstrate",))
    tiers = {service.name: service.tier for service in services}

    for service in services:
        assert set(service.needs) <= set(tiers)
    order = sorted(tiers, key=tiers.__getitem__)
    assert order[:3] == ["postgres", "sqs", "kafka"]
    assert services[-1].foreground


def test_the_demonstrations_ages_keep_the_order_of_the_limits() -> None:
    """R32: a worker never outlives its message's visibility, in seconds as in production."""
    age = {name.removeprefix("AGE_").lower(): value for name, value in stack.DEMO_AGES.items()}
    waits = sum(
        float(age[name])
        for name in ("database_wait_before_call", "gateway_deadline", "database_wait_after_call")
    )

    assert waits < float(age["soft_limit"]) < float(age["hard_limit"]) < float(age["visibility"])


def test_ports_follow_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_PORT", "8123")

    assert stack.fixed_ports()["web"] == 8123
    assert stack.fixed_ports()["kafka"] == stack.DEFAULT_PORTS["kafka"]


@pytest.mark.parametrize("value", ["", "web", "0", "65536", "-1"])
def test_a_port_that_is_none_names_its_variable(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEB_PORT", value)

    assert main(["env"]) == 1
    assert capsys.readouterr().err.startswith(f"error: WEB_PORT is {value!r}; it must be a port")


@pytest.fixture
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVSTACK_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("nothing_runs")
def test_down_where_nothing_runs_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down"]) == 0
    assert capsys.readouterr().out == "nothing runs\n"


@pytest.mark.usefixtures("nothing_runs")
def test_status_where_nothing_runs_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 1
    assert capsys.readouterr().err.startswith("error: no stack answers at ")


@pytest.mark.usefixtures("nothing_runs")
def test_env_is_what_a_shell_can_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "export ENVIRONMENT=local" in lines
    assert all(line.startswith("export ") for line in lines)


def test_env_speaks_to_the_ports_with_which_the_stack_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEVSTACK_HOME", str(tmp_path / "home"))
    opened = stack.open_stack(home=tmp_path / "home", ports=stack.free_ports())

    main(["env"])

    assert f"export WEB_URL=http://127.0.0.1:{opened.ports['web']}\n" in capsys.readouterr().out


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])

    assert "python -m devstack up" in capsys.readouterr().out
