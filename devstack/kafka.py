"""The local Kafka: noida-db, its Kafka service alone, on 127.0.0.1.

It keeps topics over a clean stop; a kill loses the last acknowledged records, which `republish` heals.
"""

import importlib.util
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from devstack import ports
from devstack.process import NotStarted, Process, python_environment

START_SECONDS = 30
BROKER_ID = "1"


class Kafka:
    """One broker of one node. After each start topics are made by declaration alone, never by a typing error."""

    def __init__(self, data_dir: Path, port: int, *, log: Path | None = None) -> None:
        self.data_dir = data_dir
        self.port = port
        self.log = log or data_dir.with_name(f"{data_dir.name}.log")
        self._process: Process | None = None

    @property
    def address(self) -> str:
        """The bootstrap servers: host:port"""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    def process(self) -> Process:
        """The server as a process that is not started yet; `prepare()` must have run."""
        # The binary itself: its console script would stay between us and the server, and outlive a kill.
        return Process(
            [
                str(binary()),
                "start",
                "--data-dir",
                str(self.data_dir),
                "--host",
                "127.0.0.1",
                "--only",
                "kafka",
                "--kafka-port",
                str(self.port),
            ],
            env=python_environment(),
            log=self.log,
        )

    def prepare(self) -> None:
        """Make the data folder, and the binary executable (some installers forget it)."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if not binary().stat().st_mode & 0o111:
            binary().chmod(0o755)

    def start(self) -> None:
        """Start and return when it answers and refuses unknown topics; raises NotStarted."""
        self.prepare()
        self._process = self.process()
        self._process.start_and_wait(answers=self.answers, seconds=START_SECONDS)

    def answers(self) -> bool:
        """Whether the broker answers and took the switch that forbids topics nobody declared.

        The switch is not kept over a restart, so being ready and having set it are one thing.
        """
        if not ports.answers(port=self.port):  # librdkafka would wait a second before its next try
            return False
        admin = AdminClient(
            {"bootstrap.servers": self.address, "log_level": 0, "socket.timeout.ms": 2000}
        )
        resource = ConfigResource(
            ResourceType.BROKER,
            BROKER_ID,
            incremental_configs=[
                ConfigEntry(
                    "auto.create.topics.enable",
                    "false",
                    incremental_operation=AlterConfigOpType.SET,
                )
            ],
        )
        try:
            [done] = admin.incremental_alter_configs([resource], request_timeout=2).values()
            done.result(timeout=3)
        except (KafkaException, TimeoutError):
            return False
        return True

    def stop(self) -> None:
        """Stop in order: topics and records are saved."""
        if self._process:
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL: the last acknowledged records are lost."""
        if self._process:
            self._process.kill()


def binary() -> Path:
    """The server inside its wheel; raises NotStarted when the wheel is not installed."""
    spec = importlib.util.find_spec("noida_db")
    if spec is None or spec.origin is None:
        raise NotStarted(
            "the noida-db package has no wheel for this machine: give KAFKA_BOOTSTRAP_SERVERS an address"
        )
    return Path(spec.origin).parent / "noida-db"
