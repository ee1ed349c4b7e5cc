"""The sandbox processor as a real process, for tests that kill it and ask its journal."""

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from checkout.gateways.sandbox import SandboxGateway
from devstack.ports import free_port
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent
API_KEY = "processor-key-for-tests"
WEBHOOK_SECRET = "webhook-secret-for-tests"
START_SECONDS = 30.0


class ProcessorProcess:
    """One sandbox over one data folder: start, kill -9 and start it again as a test needs."""

    def __init__(self, data_dir: Path, *, clock_file: Path | None = None, webhook_url: str = ""):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = data_dir
        self.log = data_dir / "processor.log"
        self._environment = {
            "PROCESSOR_API_KEY": API_KEY,
            "PROCESSOR_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "WEBHOOK_URL": webhook_url,
            "CLOCK_FILE": str(clock_file or ""),
            "PATH": os.environ.get("PATH", ""),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {API_KEY}", "Connection": "close"},
            # Nothing is left open when a test ends or the processor is killed.
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,
        )

    def start(self) -> None:
        """Return once it answers."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "processor", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir)],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(self.answers, START_SECONDS, f"the processor on {self.url}, see {self.log}")

    def answers(self) -> bool:
        """Whether it is there; fails the test if the process has ended."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            return self._client.get("/livez").is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """SIGKILL, as a power cut would; returns once the port is refused.

        The worker, which is killed with its parent, still accepts for some milliseconds.
        """
        self._end(signal.SIGKILL)
        wait_for(self._is_refused, 10, "the killed processor's port to be free")

    def _is_refused(self) -> bool:
        try:
            self._client.get("/livez")
        except httpx.ConnectError:
            return True
        except httpx.HTTPError:
            return False
        return False

    def stop(self) -> None:
        """SIGTERM, and wait; nothing if it does not run."""
        self._end(signal.SIGTERM)

    def gateway(self, *, account: str = "sandbox-main") -> SandboxGateway:
        """A gateway of this processor."""
        return SandboxGateway(
            url=self.url,
            api_key=API_KEY,
            account=account,
            webhook_secret=WEBHOOK_SECRET,
            minimum_age=timedelta(seconds=1),
            not_found_repeats=2,
            idempotent_for=timedelta(hours=24),
        )

    def control(self, **instruction: Any) -> None:
        """Give an instruction of processor/control.py."""
        self._client.post("/v1/control", json=instruction).raise_for_status()

    def journal(self) -> list[dict[str, Any]]:
        """Every line, over HTTP."""
        text = self._client.get("/v1/journal").raise_for_status().text
        return [json.loads(line) for line in text.splitlines()]

    def captures(self) -> list[dict[str, Any]]:
        """The lines that took money."""
        return [line for line in self.journal() if line["status"] == "approved"]

    def get(self, path: str) -> httpx.Response:
        """Any page of it, with the key."""
        return self._client.get(path)

    def _end(self, signal_number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal_number)
        self._process.wait(20)
        self._process = None
