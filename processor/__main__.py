"""`python -m processor --port P --data-dir D`: serve the sandbox on the loopback, under gunicorn.

From the environment: PROCESSOR_API_KEY, PROCESSOR_WEBHOOK_SECRET; WEBHOOK_URL and CLOCK_FILE where
wanted. The journal is D/journal.ndjson.
"""

import argparse
import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Become gunicorn: the process that was started is the one to stop."""
    parser = argparse.ArgumentParser(prog="python -m processor", description="sandbox processor")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--data-dir", type=Path, required=True)
    options = parser.parse_args(arguments)
    missing = [
        name
        for name in ("PROCESSOR_API_KEY", "PROCESSOR_WEBHOOK_SECRET")
        if not os.environ.get(name)
    ]
    if missing:
        parser.error(f"not in the environment: {', '.join(missing)}")
    os.environ["PROCESSOR_DATA_DIR"] = str(options.data_dir.resolve())
    command = [
        sys.executable,
        *("-m", "gunicorn"),
        *("--config", "python:processor.serving"),
        *("--bind", f"{options.host}:{options.port}"),
        "processor.app:from_environment()",
    ]
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
