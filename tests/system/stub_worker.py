"""The worker as config/celery.py makes it, with a task that does what its message says.

`celery -A tests.system.stub_worker worker`: everything but the use case is the real thing.
"""

import json
import os
import signal
import time
from typing import Any

from celery.exceptions import Reject

from checkout import queue
from config.celery import app

app.conf.imports = ()
app.steps["worker"].discard("checkout.tasks:Pulse")


@app.task(name=queue.TASK, bind=True, typing=False)
def attempt_charge(
    task: Any,
    /,
    *,
    creator_id: str,
    dispatch: int,
    seconds: float = 0.0,
    fate: str = "acknowledge",
    **_: object,
) -> None:
    """Take `seconds`, write down that it ran, then meet its fate."""
    run = {
        "creator": creator_id,
        "dispatch": dispatch,
        "receive": queue.receive_count(task),
        "begun": time.monotonic(),
        "pid": os.getpid(),
    }
    time.sleep(seconds)
    note(run | {"ended": time.monotonic()})
    match fate:
        case "leave":
            raise Reject("left", requeue=False)
        case "raise":
            raise RuntimeError("the use case failed")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)


@app.task(name=queue.KEEP_TASK, typing=False)
def keep_unreadable(*, message_id: str, body: str, reason: str, **_: object) -> None:
    with open(os.environ["STUB_RUNS"] + ".kept", "a") as kept:
        kept.write(json.dumps({"message_id": message_id, "body": body, "reason": reason}) + "\n")


def note(run: dict[str, Any]) -> None:
    """One write of one short line, so that lines of several children do not mix."""
    with open(os.environ["STUB_RUNS"], "a") as runs:
        runs.write(json.dumps(run) + "\n")
