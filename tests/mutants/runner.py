"""Try mutants, two at a time: a copy of the source, one PostgreSQL, a forked process a mutant.

1. The project is copied, so that what somebody edits meanwhile does not change what is tried.
2. A child makes Django's test database, migrated; each hand works on a clone of it.
3. A child a mutant, forked from a process that has imported everything but the project, imports the
   mutated source and runs schedules. It ends with its answer, so nothing of a bug is left behind.
"""

import importlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from devstack.postgres import Postgres
from tests.mutants.finding import Finding
from tests.mutants.hook import install
from tests.mutants.mutant import ROOT, Mutant

COPIED = ("checkout", "settlements", "config", "processor", "devstack", "tests", "templates")
# Their import takes two thirds of a child's start, and they hold nothing of the project.
HEAVY = (
    *("django.contrib.admin", "django.contrib.postgres", "django.db.models", "django.template"),
    *("django.db.backends.postgresql.base", "django.core.management", "rest_framework"),
    *("celery", "kombu", "boto3", "botocore.session", "confluent_kafka", "httpx", "jsonschema"),
    *("psycopg", "dateutil.relativedelta", "drf_spectacular", "csp", "kombu.transport.SQS"),
)
TEMPLATE = "test_checkout"
_FORK = multiprocessing.get_context("fork")


class Broken(Exception):
    """A child ended without an answer: the mutant cannot be imported, or the runner is wrong."""


class Runner:
    """Tries mutants against schedules; made by `runner()`."""

    def __init__(self, root: Path, postgres: Postgres) -> None:
        self.root = root
        self._postgres = postgres

    def try_all(
        self,
        work: Sequence[Mutant],
        *,
        first: Mapping[str, int],
        seeds: Sequence[int],
        hands: int,
        limit: float,
    ) -> Iterator[Finding]:
        """A finding for each, as they come in; a child longer than `limit` seconds is ended."""
        waiting, running = list(work), list[_Trial]()
        free = [self._clone(f"test_mutants_{hand}") for hand in range(hands)]
        while waiting or running:
            while waiting and free:
                mutant = waiting.pop(0)
                begin = [first[mutant.name]] if mutant.name in first else []
                job = partial(_try_out, mutant, begin, seeds, self.root)
                running.append(_Trial(self, mutant, job, free.pop(), limit=limit))
            wait([trial.sentinel for trial in running], timeout=1.0)
            for trial in [trial for trial in running if trial.is_over()]:
                running.remove(trial)
                free.append(trial.database)
                yield trial.finding()

    def unsound(self, seeds: Sequence[int]) -> dict[int, str]:
        """Which of these schedules complain about the service as it is, and how."""
        database = self.dsn(self._clone("test_mutants_control"))
        found: dict[int, str] = _answer_of(lambda: _control(seeds, self.root, database))
        return found

    def prepare(self, name: str, statements: str) -> str:
        """A clone of its own for a mutant that changes the database."""
        self._clone(name)
        with psycopg.connect(self._postgres.dsn(name), autocommit=True) as database:
            database.execute(statements.encode())
        return name

    def drop(self, name: str) -> None:
        with psycopg.connect(self._postgres.dsn("postgres"), autocommit=True) as server:
            server.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def dsn(self, database: str) -> str:
        return self._postgres.dsn(database)

    def make_template(self) -> None:
        """Django's own test database, with every migration."""
        _answer_of(lambda: _make_tables(self.root, self.dsn("checkout")))

    def _clone(self, name: str) -> str:
        with psycopg.connect(self._postgres.dsn("postgres"), autocommit=True) as server:
            server.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(TEMPLATE)
                )
            )
        return name


class _Trial:
    """A mutant under way in a child."""

    def __init__(
        self,
        runner: Runner,
        mutant: Mutant,
        job: Callable[[str], Finding],
        database: str,
        *,
        limit: float,
    ) -> None:
        self.mutant, self.database = mutant, database
        self._runner, self._begun, self._limit = runner, time.monotonic(), limit
        self._own = f"test_mutant_{mutant.name.replace('-', '_')}" if mutant.sql else ""
        if self._own:
            runner.prepare(self._own, mutant.sql)
        url = runner.dsn(self._own or database)
        self._child, self._answers = _forked(lambda: job(url))
        self.sentinel = self._child.sentinel

    def is_over(self) -> bool:
        if self._child.is_alive() and time.monotonic() - self._begun > self._limit:
            self._child.kill()
            self._child.join()
        return not self._child.is_alive()

    def finding(self) -> Finding:
        """What the child answered; no verdict if it died, took too long or is no program."""
        seconds = time.monotonic() - self._begun
        if self._own:
            self._runner.drop(self._own)
        answer = self._answers.recv() if self._answers.poll() else None
        self._answers.close()
        if isinstance(answer, Finding):
            return answer
        why = answer or f"ended with {self._child.exitcode}"
        return Finding(self.mutant.name, None, 0, seconds, trouble=f"no verdict: {why}")


@contextmanager
def runner(home: Path, postgres: Postgres) -> Iterator[Runner]:
    """A runner with its PostgreSQL and its copy of the source, below `home`."""
    root = home / "source"
    for folder in COPIED:
        shutil.copytree(
            ROOT / folder,
            root / folder,
            ignore=shutil.ignore_patterns("__pycache__", "node_modules"),
        )
    shutil.copy(ROOT / "pyproject.toml", root)
    for heavy in HEAVY:
        with suppress(ImportError):
            importlib.import_module(heavy)
    postgres.start()
    try:
        made = Runner(root, postgres)
        made.make_template()
        yield made
    finally:
        postgres.kill()


def tested(mutant: Mutant, *, root: Path) -> Finding:
    """Run the test that is to find what the simulation cannot show, with the mutant hooked in."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.mutants.plugin"]
    done = subprocess.run(
        [*command, mutant.killed_by],
        cwd=root,
        env={**os.environ, "MUTANT": mutant.name, "TMPDIR": tempfile.gettempdir()},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    # 1: tests ran and some failed. Anything else is no verdict.
    if done.returncode not in (0, 1):
        raise Broken(f"{mutant.name}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    sentence = f"fails: {mutant.killed_by}" if done.returncode else ""
    return Finding(mutant.name, None, 0, time.monotonic() - begun, sentence)


# --- In the child ------------------------------------------------------------------------------------


def _enter(root: Path, database: str) -> None:
    """Let this fresh process import the project from `root` and speak to `database` (a URL)."""
    os.environ["DATABASE_URL"] = os.environ["DATABASE_DIRECT_URL"] = database
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    os.chdir(root)
    sys.path.insert(0, str(root))
    sys.modules["tests"].__path__[:] = [str(root / "tests")]


def _make_tables(root: Path, database: str) -> bool:
    _enter(root, database)
    importlib.import_module("django").setup()
    connection = importlib.import_module("django.db").connection
    connection.creation.create_test_db(verbosity=0, serialize=False)
    connection.close()
    importlib.import_module("tests.mutants.trial")  # leaves its bytecode for the others
    return True


def _try_out(
    mutant: Mutant, first: Sequence[int], seeds: Sequence[int], root: Path, database: str
) -> Any:
    _enter(root, database)
    install(mutant, root=root)
    importlib.import_module("django").setup()
    return importlib.import_module("tests.mutants.trial").try_out(mutant, first, seeds)


def _control(seeds: Sequence[int], root: Path, database: str) -> Any:
    _enter(root, database)
    importlib.import_module("django").setup()
    return importlib.import_module("tests.mutants.trial").without(seeds)


def _forked(work: Callable[[], Any]) -> tuple[Any, "Connection[Any, Any]"]:
    ours, theirs = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_answer, args=(theirs, work), daemon=True)
    child.start()
    theirs.close()
    return child, ours


def _answer(to: "Connection[Any, Any]", work: Callable[[], Any]) -> None:
    try:
        to.send(work())
    except BaseException as error:  # noqa: BLE001  the parent says what it was
        to.send(f"{type(error).__name__}: {error}")
    to.close()
    os._exit(0)  # threads of a bug may never end


def _answer_of(work: Callable[[], Any]) -> Any:
    child, answers = _forked(work)
    child.join()
    answer = answers.recv() if answers.poll() else None
    if isinstance(answer, str) or answer is None:
        raise Broken(str(answer))
    return answer
