"""The local SQS: ministack, its SQS alone, on 127.0.0.1.

It keeps queues and messages over a clean stop; a kill loses them, which `create_queues` and `sweep` heal.
"""

import http.client
import sys
from pathlib import Path

from devstack.process import Process, python_environment

START_SECONDS = 30


class Sqs:
    """One server; any access key will do."""

    def __init__(self, data_dir: Path, port: int, *, log: Path | None = None) -> None:
        self.data_dir = data_dir
        self.port = port
        self.log = log or data_dir.with_name(f"{data_dir.name}.log")
        self._process: Process | None = None

    @property
    def address(self) -> str:
        """The endpoint URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    def process(self) -> Process:
        """The server as a process that is not started yet; `prepare()` must have run."""
        return Process([sys.executable, "-m", "ministack"], env=self._environment(), log=self.log)

    def prepare(self) -> None:
        """Make the data folder."""
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start and return when it answers; raises NotStarted."""
        self.prepare()
        self._process = self.process()
        self._process.start_and_wait(answers=self.answers, seconds=START_SECONDS)

    def answers(self) -> bool:
        """Whether its health page answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/_ministack/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop in order: queues and messages are saved."""
        if self._process:
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL: what was not saved is lost."""
        if self._process:
            self._process.kill()

    def _environment(self) -> dict[str, str]:
        return python_environment() | {
            "SERVICES": "sqs",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.data_dir),
            "LOG_LEVEL": "WARNING",
        }
