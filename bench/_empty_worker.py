"""The worker of config/celery.py with a task that does nothing but leave eight bytes behind."""

import os
import struct
from typing import Any

from checkout import queue
from config.celery import app

app.conf.imports = ()
app.steps["worker"].discard("checkout.tasks:Pulse")

_runs = os.open(os.environ["BENCH_RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@app.task(name=queue.TASK, typing=False)
def attempt_charge(*, group: int, dispatch: int, **_: Any) -> None:
    """One write to a file opened for appending: the order of the file is the order of the runs."""
    os.write(_runs, struct.pack("<II", group, dispatch))
