"""How often SQS handed over each message, by the worker's log: no table counts receives."""

import json
from pathlib import Path
from typing import Final

RECEIVED: Final = "received"


def count_receives(log: Path) -> tuple[int, int]:
    """How many receives there were, and the most of one message; (0, 0) without a log."""
    total = most = 0
    if not log.exists():
        return 0, 0
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            start = line.find("{")
            if start < 0 or RECEIVED not in line:
                continue
            try:
                said = json.loads(line[start:])
            except ValueError:
                continue
            if said.get("message") == RECEIVED:
                total, most = total + 1, max(most, int(said["count"]))
    return total, most
