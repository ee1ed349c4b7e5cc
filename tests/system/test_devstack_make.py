"""`make` does its own set-up: once, again after an interruption, and says in one line what is missing."""

import os
import shutil
import subprocess

import pytest

from tests.system.users import PROJECT, Runner, runner

__all__ = ["runner"]

pytestmark = pytest.mark.system

REQUIREMENTS = [f"requirements/{name}.txt" for name in ("base", "dev", "bench")]


class Clone:
    """A clone whose requirements are empty, so that nothing is fetched, and whose bench prints one word."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.folder = runner.home / "clone"
        shutil.copytree(PROJECT / "devstack", self.folder / "devstack")
        shutil.copy(PROJECT / "Makefile", self.folder)
        for name in (*REQUIREMENTS, "bench/__init__.py"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).touch()
        (self.folder / "bench" / "word.py").write_text("print('measured')\n")
        if runner.before:
            for path in [self.folder, *self.folder.rglob("*")]:
                shutil.chown(path, "nobody")

    def make(self, *words: str, path: str = os.defpath) -> "subprocess.CompletedProcess[str]":
        """Run make with a home folder that cannot be written."""
        return subprocess.run(
            [*self.runner.before, str(shutil.which("make")), *words],
            cwd=self.folder,
            env={"PATH": path, "HOME": "/nonexistent"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            check=False,
        )


@pytest.fixture
def clone(runner: Runner) -> Clone:
    tried = runner.run(["-c", "import ensurepip"])
    if tried.returncode:
        pytest.skip(f"{runner.python} has no venv module")
    return Clone(runner)


def test_the_life_of_a_set_up(clone: Clone) -> None:
    """One environment for all steps, since making it is most of the time."""
    python = f"PYTHON={clone.runner.python}"
    requirements = clone.folder / "requirements" / "dev.txt"

    first = clone.make("bench", python)
    again = clone.make("bench", python)
    requirements.write_text("# changed\n")
    renewed = clone.make("bench", python)
    (clone.folder / "bench" / "word.py").write_text("raise SystemExit(3)\n")
    failed = clone.make("bench", "BENCH=word", python)

    for done in (first, again, renewed):
        assert done.returncode == 0, done.stdout
        assert "measured" in done.stdout
    assert "== set-up done in" in first.stdout
    assert "set-up" not in again.stdout
    assert "== virtual environment" not in renewed.stdout
    assert "== set-up done in" in renewed.stdout
    assert len([*(clone.folder / ".venv").glob(".installed-*")]) == 1
    assert failed.returncode != 0
    assert "== failed: bench word (exit code 3)" in failed.stdout


def test_no_python_that_is_new_enough_is_one_line(clone: Clone) -> None:
    tools = clone.folder / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "cksum", "cut", "sed", "date", "expand"):
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tools / "python3").chmod(0o755)

    done = clone.make("run", path=str(tools))

    lines = [line for line in done.stdout.splitlines() if not line.startswith("make")]
    assert done.returncode != 0
    assert lines == [
        "error: Python 3.11 or newer is missing; install one, or name it: make PYTHON=/path/to/python3.11"
    ]


def test_help_is_the_default_and_names_every_target(clone: Clone) -> None:
    done = clone.make()

    targets = [
        line.partition(":")[0]
        for line in (PROJECT / "Makefile").read_text().splitlines()
        if "  ## " in line
    ]
    assert len(targets) >= 7
    for target in targets:
        assert f"make {target}" in done.stdout
