"""Makes the virtual environment: `python3 -m devstack.install STAMP`, run by make.

Safe to run twice, at once and after an interruption: the stamp is written last, and its name carries a hash of
the requirements. Standard library alone.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from devstack import preflight

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
REQUIREMENTS = ("requirements/base.txt", "requirements/dev.txt")
SHOW_EVERY_SECONDS = 2


def main() -> int:
    """Install, or say in one line for each gap what is missing; returns the exit code."""
    problems = preflight.before_install(project=PROJECT)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        return 1
    stamp = VENV / sys.argv[1]
    # The lock is on a file of the clone, since the environment may be made anew.
    with (PROJECT / REQUIREMENTS[0]).open() as lock:
        wait_for_lock(lock.fileno())
        if stamp.exists():
            return 0
        return install(stamp=stamp)


def install(*, stamp: Path) -> int:
    """Environment, then packages, then the stamp."""
    began = time.monotonic()
    if not usable():
        print(f"== virtual environment {VENV}", flush=True)
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False)
        if made.returncode:
            print("error: python -m venv failed (its words are above)", file=sys.stderr)
            return 1
    code = install_packages()
    if code:
        return code
    for old in VENV.glob(".installed-*"):
        old.unlink()
    stamp.touch()
    print(f"== set-up done in {time.monotonic() - began:.0f} s", flush=True)
    return 0


def usable() -> bool:
    """Whether the environment that is there has a Python and a pip that run."""
    python = VENV / "bin" / "python"
    if not python.exists():
        return False
    return (
        subprocess.run(
            [str(python), "-m", "pip", "--version"], capture_output=True, check=False
        ).returncode
        == 0
    )


def install_packages() -> int:
    """pip with hashes; shows how many packages of how many, and pip's last lines if it fails."""
    total = count_pins()
    print(f"== {total} packages, pinned with hashes", flush=True)
    command = [
        str(VENV / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command += ["--require-hashes"]
    for name in REQUIREMENTS:
        command += ["-r", name]
    pip = subprocess.Popen(
        command,
        cwd=str(PROJECT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        env=dict(os.environ, PYTHONUNBUFFERED="1"),
    )
    lines = show_progress(pip, total=total)
    if pip.wait():
        print("error: pip failed:\n{}".format("".join(lines[-20:])), file=sys.stderr)
    return pip.returncode


def show_progress(pip: subprocess.Popen[str], *, total: int) -> list[str]:
    """One line every two seconds: the packages fetched so far; returns everything pip said."""
    lines = []
    began = shown = time.monotonic()
    fetched = 0
    for line in pip.stdout or ():
        lines.append(line)
        fetched += bool(re.match(r"(Collecting|Requirement already satisfied)", line))
        now = time.monotonic()
        if line.startswith("Installing") or now - shown > SHOW_EVERY_SECONDS:
            shown = now
            words = (
                "installing"
                if line.startswith("Installing")
                else f"{min(fetched, total)} of {total} fetched"
            )
            print(f"   {now - began:3.0f} s  {words}", flush=True)
    return lines


def count_pins() -> int:
    """How many different packages the requirements pin."""
    text = "".join((PROJECT / name).read_text() for name in REQUIREMENTS)
    return len(set(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==", text, flags=re.MULTILINE)))


def wait_for_lock(lock: int) -> None:
    """Two makes may run at once: the second waits for the first, and says so."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("== another set-up is running; waiting for it", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


if __name__ == "__main__":
    sys.exit(main())
