"""What must be there before anything is installed or started; each gap is one line that says what to do.

Standard library alone, and syntax that an old Python still reads: this runs before the environment exists.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 11)
INSTALL_BYTES = 800 * 1024 * 1024
RUN_BYTES = 500 * 1024 * 1024
UNPRIVILEGED_USER = "nobody"


def before_install(*, project: Path) -> list[str]:
    """What keeps the set-up from working, in sentences."""
    problems = []
    version = tuple(sys.version_info[:2])
    if version < OLDEST_PYTHON:
        problems.append(
            "Python 3.11 or newer is missing: {} is {}.{}; install one, or name it: make PYTHON=/path/to/python3.11".format(
                sys.executable, *version
            )
        )
    elif importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        problems.append(
            "Python's venv module is missing: install the package python{}.{}-venv (Debian, Ubuntu: apt install python3-venv)".format(
                *version
            )
        )
    if not os.access(str(project), os.W_OK):
        problems.append(f"{project} is not writable: .venv cannot be made there")
    return problems + disk(folder=project, wanted=INSTALL_BYTES)


def before_start(*, home: Path) -> list[str]:
    """What keeps the servers from starting, in sentences; the state folder must be there."""
    problems = disk(folder=home, wanted=RUN_BYTES)
    if home.stat().st_uid != os.geteuid():
        problems.append(f"{home} belongs to another user: set DEVSTACK_HOME to a folder of yours")
    if os.geteuid() == 0 and sys.platform == "linux":
        problems += as_root(home=home)
    return problems


def as_root(*, home: Path) -> list[str]:
    """PostgreSQL refuses root, so root needs setpriv and a user who can reach the state folder."""
    if shutil.which("setpriv") is None:
        return [
            "setpriv is missing (package util-linux): as root, PostgreSQL is started through it"
        ]
    words = ["setpriv", "--reuid", UNPRIVILEGED_USER, "--regid", "65534", "--clear-groups", "--"]
    tried = subprocess.run([*words, "test", "-x", str(home)], capture_output=True, check=False)
    if tried.returncode:
        return [
            f"the user {UNPRIVILEGED_USER} cannot enter {home}: as root, PostgreSQL runs as that user; set DEVSTACK_HOME"
        ]
    return []


def disk(*, folder: Path, wanted: int) -> list[str]:
    """Whether the disk under a folder has room."""
    free = shutil.disk_usage(str(folder)).free
    if free >= wanted:
        return []
    return [
        f"the disk of {folder} is nearly full: {free // 1024**2} MB free, {wanted // 1024**2} MB are needed"
    ]
