"""gunicorn as a process, as the local stack starts it, and a client that says how long it waited."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.db import connection

from tests.waiting import wait_for

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Answer:
    """Status 0 is no answer: the connection was refused or broke."""

    status: int
    body: bytes = b""
    replayed: bool = False
    retry_after: str = ""
    seconds: float = 0.0


@dataclass
class Web:
    """gunicorn as the local stack starts it, with the test's database."""

    port: int
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """kill -9 of the server and its workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def answers(self) -> bool:
        return ask(self.port, "GET", "/livez").status == 200


@contextmanager
def web(port: int, log: Path, *, failpoints: str = "", at: str = "") -> Iterator[Web]:
    """A server whose database is `at` host:port, by default where it is."""
    of = connection.settings_dict
    place = at or f"{of['HOST']}:{of['PORT']}"
    database = f"postgresql://{of['USER']}:{of['PASSWORD']}@{place}/{of['NAME']}"
    command = (
        *(sys.executable, "-m", "gunicorn", "config.wsgi:application", "-b", f"127.0.0.1:{port}"),
        *("--worker-class", "gthread", "--workers", "1", "--threads", "4", "--no-control-socket"),
    )
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, "DATABASE_URL": database, "FAILPOINTS": failpoints},
            stderr=stderr,
            start_new_session=True,
        )
    server = Web(port, process)
    try:
        wait_for(server.answers, 30, "the web server to answer")
        yield server
    finally:
        server.kill()


def ask(port: int, method: str, path: str, body: object = None, **headers: str) -> Answer:
    link, begun = http.client.HTTPConnection("127.0.0.1", port, timeout=15), time.monotonic()
    try:
        link.request(method, path, json.dumps(body) if body else None, headers)
        response = link.getresponse()
        replayed = response.getheader("Idempotent-Replayed") == "true"
        again = response.getheader("Retry-After") or ""
        body_read = response.read()
        took = time.monotonic() - begun
        return Answer(response.status, body_read, replayed, again, took)
    except (OSError, http.client.HTTPException):
        return Answer(0, seconds=time.monotonic() - begun)
    finally:
        link.close()
