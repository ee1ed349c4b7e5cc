""".ci/nightly: that it can be read, bounds itself, and runs what it says."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NIGHTLY = ROOT / ".ci" / "nightly"
STUB = """#!/bin/sh
echo "$@" >> "$STUB_CALLS"
for word in "$@"; do case $word in SEEDS=*) echo "${word#SEEDS=} schedules at abc, 0 failed" ;; esac; done
exit ${STUB_CODE:-0}
"""


def night(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A night whose `make` only writes down what it was asked."""
    make = folder / "make"
    make.write_text(STUB)
    make.chmod(0o755)
    return subprocess.run(
        [str(NIGHTLY)],
        env={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "STUB_CALLS": str(folder / "calls"),
            "NIGHTLY_LOGS": str(folder / "logs"),
            "NIGHTLY_ONLY": "simulation mutants chaos kills",
            "NIGHTLY_BASE": "7000",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_runs_every_seed_once_in_ranges(tmp_path: Path) -> None:
    done = night(
        tmp_path,
        NIGHTLY_SCHEDULES="2500",
        NIGHTLY_RANGE="1000",
        NIGHTLY_MINUTES="10",
        NIGHTLY_KILLS="8",
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "calls").read_text().splitlines() == [
        "simulate SEEDS=1000 SEED_BASE=7000",
        "simulate SEEDS=1000 SEED_BASE=8000",
        "simulate SEEDS=500 SEED_BASE=9000",
        "mutants",
        "chaos MINUTES=10",
        "kills TIMES=8 RANDOM=40 CRASHES=3",
    ]
    assert "2500 schedules" in done.stdout


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"STUB_CODE": "1"}, r"failed \(1\)"), ({"NIGHTLY_HOURS": "0"}, "out of time")],
)
def test_what_failed_or_found_no_time_fails_the_night(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    done = night(tmp_path, NIGHTLY_SCHEDULES="10", NIGHTLY_RANGE="10", **changes)

    assert done.returncode == 1
    assert len(re.findall(said, (tmp_path / "logs" / "summary.txt").read_text())) == 4


def test_its_parts_exist() -> None:
    text = NIGHTLY.read_text("utf-8")
    targets = set(re.findall(r"\bmake (\w+)", text))
    makefile = (ROOT / "Makefile").read_text("utf-8")

    assert targets == {"simulate", "mutants", "chaos", "kills"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert os.access(NIGHTLY, os.X_OK)
