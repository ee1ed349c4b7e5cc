"""Running a piece of Python as root and as an ordinary user, whichever the tests themselves are."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from devstack.process import wait_until_gone

PROJECT = Path(__file__).resolve().parents[2]
ORDINARY_USER = "nobody"


@dataclass(frozen=True)
class Runner:
    """Starts this project's Python as one user; `home` is a folder of that user's own."""

    name: str
    home: Path
    before: tuple[str, ...] = ()
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=lambda: {"PYTHONPATH": str(PROJECT)})

    def start(self, words: Sequence[str], **variables: str) -> "subprocess.Popen[str]":
        """Start `python words…` with its output in a pipe."""
        return subprocess.Popen(
            [*self.before, self.python, *words],
            env=self._environment() | variables,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, words: Sequence[str], **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run `python words…` to its end."""
        return subprocess.run(
            [*self.before, self.python, *words],
            env=self._environment() | variables,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        # No HOME that can be written, as on a build machine.
        return {
            "PATH": os.environ["PATH"],
            "FREE_PORTS": os.environ["FREE_PORTS"],
            "HOME": "/nonexistent",
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.environment,
        }


@pytest.fixture(params=["root", "ordinary user"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Both kinds of user; what an ordinary user cannot read is copied for them."""
    am_root = os.geteuid() == 0
    if request.param == "root" and not am_root:
        pytest.skip("the tests do not run as root")
    home = Path(tempfile.mkdtemp(prefix="checkout-user-"))
    try:
        if request.param == "root" or not am_root:
            home.chmod(0o711)
            yield Runner(name=request.param, home=home)
        else:
            shutil.chown(home, ORDINARY_USER)
            yield ordinary_user(home)
    finally:
        kill_what_runs_in(home)
        shutil.rmtree(home, ignore_errors=True)


def ordinary_user(home: Path) -> Runner:
    """A runner for nobody, with copies of the parts of the clone and of Python they cannot read."""
    before = (
        str(shutil.which("setpriv")),
        "--reuid",
        ORDINARY_USER,
        "--regid",
        "65534",
        "--clear-groups",
        "--",
    )
    copies = Path(tempfile.mkdtemp(prefix="copies-", dir=home))
    copies.chmod(0o755)
    packages = readable(Path(pytest.__file__).parents[1], copies / "packages", before=before)
    shutil.copytree(PROJECT / "devstack", copies / "project" / "devstack")
    for script in (PROJECT / "tests/system").glob("devstack_*.py"):
        (copies / "project/tests/system").mkdir(parents=True, exist_ok=True)
        shutil.copy(script, copies / "project/tests/system")
    environment = {"PYTHONPATH": f"{copies / 'project'}:{packages}"}
    return Runner(
        name="ordinary user",
        home=home,
        before=before,
        environment=environment,
        python=python_for(copies, before=before, environment=environment),
    )


def readable(folder: Path, copy: Path, *, before: Sequence[str]) -> Path:
    """The folder, or a copy of it where the user cannot read it."""
    if subprocess.run([*before, "ls", str(folder)], capture_output=True, check=False).returncode:
        shutil.copytree(folder, copy)
        return copy
    return folder


def python_for(copies: Path, *, before: Sequence[str], environment: dict[str, str]) -> str:
    """A Python of this very version that the user can run: ours, the system's, or a copy."""
    wanted = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Through a shell: setpriv itself still has root's rights when it executes the first program.
    for candidate in (sys.executable, f"/usr/bin/{wanted}", f"/usr/local/bin/{wanted}"):
        tried = subprocess.run(
            [*before, "sh", "-c", f"{candidate} -c 'import psutil'"],
            capture_output=True,
            env=environment,
            check=False,
        )
        if tried.returncode == 0:
            return candidate
    prefix = copies / "python"
    skip = shutil.ignore_patterns("site-packages", "test", "__pycache__", "idlelib", "tkinter")
    shutil.copytree(Path(sys.base_prefix) / "lib" / wanted, prefix / "lib" / wanted, ignore=skip)
    for library in (Path(sys.base_prefix) / "lib").glob("libpython*"):
        shutil.copy(library, prefix / "lib")
    (prefix / "bin").mkdir()
    shutil.copy(Path(sys.executable).resolve(), prefix / "bin" / wanted)
    environment |= {"PYTHONHOME": str(prefix), "LD_LIBRARY_PATH": str(prefix / "lib")}
    return str(prefix / "bin" / wanted)


def kill_what_runs_in(home: Path) -> None:
    """End what a test left: every process that lives in its folder or names it; the folder is the test's alone."""
    found = [process for process in psutil.process_iter() if lives_in(process, home)]
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until_gone(found, seconds=10)


def lives_in(process: psutil.Process, home: Path) -> bool:
    """Whether a process works in a folder or was started with it."""
    try:
        return any(str(home) in word for word in [process.cwd(), *process.cmdline()])
    except psutil.Error:
        return False
