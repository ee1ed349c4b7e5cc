"""All mutants once, each against the schedule that is known to find it."""

import subprocess
import sys

import pytest

from tests.mutants.mutant import ROOT
from tests.workers import processes


@pytest.mark.timeout(1200)
def test_every_known_mutant_is_found() -> None:
    """A bug that lives here is a hole in the oracle; where seeds drifted, `--renew` finds new ones."""
    words = ["--known", "--seeds", "60", "--hands", str(processes())]
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=1180,
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
