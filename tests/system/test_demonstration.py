"""The demonstration in small, through every real part: its proof holds, whatever is killed (F5, F6, F29, F33).

It is `make demo` with 40 creators and one month: each card behaviour, the worker and both relays killed by
SIGKILL, a message that ends as a dead letter, SQS away for ten seconds, and the two missing cents (R37).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

OURS = ("DATABASE_", "SQS_", "KAFKA_", "PROCESSOR_", "AWS_", "AGE_", "CLOCK_FILE", "SECRET_KEY")


def test_every_line_of_the_proof_holds_in_small():
    environment = {n: v for n, v in os.environ.items() if not n.startswith(OURS)}
    with tempfile.TemporaryDirectory(prefix="checkout-small-") as folder:
        # PostgreSQL's own unprivileged user must pass through.
        Path(folder).chmod(0o711)
        told = subprocess.run(
            [sys.executable, "-m", "tests.system.demonstration_script", f"{folder}/home"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=390,
            check=False,
        )
        logs = "".join(
            f"\n== {log.name}\n{log.read_text(errors='replace')[-2000:]}"
            for log in Path(folder).glob("home/logs/*.log")
        )

    assert "lines hold, after" in told.stdout, told.stdout + told.stderr + logs
    assert told.returncode == 0
    assert "✗" not in told.stdout
