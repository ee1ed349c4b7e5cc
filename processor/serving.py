"""How gunicorn serves the sandbox: one process, because one process writes the journal."""

import ctypes
import logging
import signal
import sys
from typing import Any

logging.basicConfig(level=logging.INFO, format="processor %(levelname)s %(name)s %(message)s")

workers = 1
worker_class = "gthread"
threads = 32
timeout = 120
graceful_timeout = 2
keepalive = 2
loglevel = "warning"
control_socket_disable = True
_PR_SET_PDEATHSIG = 1


def post_fork(_server: Any, _worker: Any) -> None:
    """A kill -9 of the parent takes the worker along, which holds the port and the journal."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
