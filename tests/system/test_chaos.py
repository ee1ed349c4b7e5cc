"""`make chaos` as a whole, with two of its scenarios: the primary is killed and no promise is broken (F18)."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.system.users import PROJECT

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

# Time for each of the two, once.
WORDS = (
    *("--minutes", "0.46", "--seed", "1", "--rate", "2"),
    *("--only", "failover", "charging.answered"),
)


def test_a_short_run_survives_a_failover_and_a_killed_worker() -> None:
    """F10, F18: exit code 0 says that the whole verdict holds; the figures stand in the tables."""
    with tempfile.TemporaryDirectory(prefix="checkout-chaos-") as folder:
        Path(folder).chmod(0o711)
        done = subprocess.run(
            [sys.executable, "-m", "chaos", *WORDS],
            env=own_environment() | {"DEVSTACK_HOME": f"{folder}/stack"},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=390,
            check=False,
        )

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert "the verdict holds" in done.stdout
    assert "failover seconds" in done.stdout
    assert "acknowledged writes lost: 0; requests finally failed: 0" in done.stdout


def own_environment() -> dict[str, str]:
    """Without the addresses of this test run's servers: the stack has its own."""
    ours = ("DATABASE_", "SQS_", "AWS_", "KAFKA_", "PROCESSOR_", "CLOCK_", "ENVIRONMENT", "SECRET")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
