"""Where the demonstration takes place: the running stack, and what must be remembered about the story."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from checkout.clock import Clock
from demo.journal import lines_of
from demo.screen import Screen
from devstack.control import ask

FILES: Final = Path(__file__).parent
HTTP_SECONDS: Final = 10.0


class StageRefused(Exception):
    """The stack did not do what it was told; the text is its own answer."""


@dataclass
class Fault:
    """One cent-fault that was put in on purpose, and when it was named (real time, UTC)."""

    what: str
    external_id: str
    charge_id: str
    committed_at: str
    named_at: str = ""

    @property
    def seconds(self) -> float | None:
        """From the commit until the Discrepancy row stood there; None if it never did."""
        if not self.named_at:
            return None
        named, committed = map(datetime.fromisoformat, (self.named_at, self.committed_at))
        return (named - committed).total_seconds()


@dataclass
class Memory:
    """What the story did so far, in a file, so that a second run goes on instead of doing it twice."""

    began_on: str = ""
    checkouts: int = 0
    steps: int = 0
    refused: str = ""
    outages: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    statements_from: str = ""
    # How many receives the story took, and the most of one message.
    receives: tuple[int, int] = (0, 0)
    # How often the processor was called meanwhile, by the attempts.
    sends: int = 0
    finished: bool = False

    @classmethod
    def read(cls, path: Path) -> "Memory":
        if not path.exists():
            return cls()
        known: dict[str, Any] = json.loads(path.read_text("utf-8"))
        read = {
            "faults": [Fault(**fault) for fault in known["faults"]],
            "receives": tuple(known["receives"]),
        }
        return cls(**known | read)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1), "utf-8")


@dataclass(frozen=True)
class Stage:
    """The stack's addresses, and the hands that move its clock and break its parts."""

    web_url: str
    processor_url: str
    processor_key: str
    admin_url: str
    clock_file: Path
    socket: Path
    # Lane → the processor, and our account there.
    lanes: Mapping[str, tuple[str, str]]
    clock: Clock
    screen: Screen

    @property
    def memory_file(self) -> Path:
        return self.clock_file.with_name("demonstration.json")

    @property
    def worker_log(self) -> Path:
        return self.socket.with_name("logs") / "worker.log"

    def move_clock(self, *, to: date) -> None:
        """Set the business clock to this day, at the present time of day, for every process at once."""
        ahead = timedelta(days=(to - self.clock.real_now().date()).days)
        draft = self.clock_file.with_suffix(".new")
        draft.write_text(str(ahead.total_seconds()), "ascii")
        draft.replace(self.clock_file)

    def kill(self, part: str) -> None:
        """SIGKILL a process with its children; the supervisor starts it again."""
        self._ask(f"kill {part}")

    def pause(self, part: str, *, seconds: float) -> None:
        """Take a server away for so long."""
        self._ask(f"pause {part} {seconds:g}")

    def down(self) -> list[str]:
        """The parts that should be up and are not; the demonstration itself is none of them."""
        services = self._ask("status")["services"]
        well = {"up", "done"}
        return [
            name
            for name, one in services.items()
            if one["state"] not in well and name != "demonstration"
        ]

    def instruct_processor(self, instruction: Mapping[str, object]) -> None:
        """Tell the sandbox processor to misbehave."""
        self._processor("POST", "/v1/control", json=dict(instruction)).raise_for_status()

    def journal(self) -> Iterator[dict[str, Any]]:
        """Every decision the processor ever made, by its own account."""
        answer = self._processor("GET", "/v1/journal")
        answer.raise_for_status()
        return lines_of(answer.text)

    def statement(self, *, account: str, first: date, last: date) -> str:
        """The processor's statement file of one account for these days, both included."""
        answer = self._processor(
            "GET", f"/v1/statements/{account}.csv", params={"from": str(first), "to": str(last)}
        )
        answer.raise_for_status()
        return answer.text

    def _ask(self, command: str) -> dict[str, Any]:
        answer = ask(self.socket, command)
        if "error" in answer:
            raise StageRefused(f"{command}: {answer['error']}")
        return answer

    def _processor(self, method: str, path: str, **rest: Any) -> httpx.Response:
        return httpx.request(
            method,
            self.processor_url + path,
            headers={"Authorization": f"Bearer {self.processor_key}"},
            timeout=HTTP_SECONDS * 3,
            **rest,
        )
