"""Where chaos takes place: the running stack, and what its parts owe each other.

- `scenes.py`: the scenarios, each breaks one thing under load and heals it again.
- `run.py`: starts the stack and the load, plays the scenarios, waits until all is quiet, asks the verdict.
- `load.py`: `open_load(stage, rate=…, seed=…) -> Load`, the clients.
- `verdict.py`: `judge(stage, load, outcomes) -> Verdict`, the invariants and the figures.

No Django here: the oracle reads PostgreSQL by SQL, the processor's journal by HTTP and the topic by a
consumer, so that a mistake of the service's own reading cannot hide itself.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from devstack.proxy import Proxy


class Processes(Protocol):
    """The stack's processes by name; the supervisor starts one that ended again, unless it was stopped.

    Names: postgres-a, postgres-b, sqs, kafka, processor, web, worker, relay-sqs-1, relay-sqs-2,
    relay-kafka-1, relay-kafka-2, timetable.
    """

    def kill(self, name: str) -> None:
        """SIGKILL the process with its children; it is started again at once."""
        ...

    def stop(self, name: str) -> None:
        """End it in order; it stays away until `start`."""
        ...

    def end(self, name: str) -> None:
        """SIGKILL the process with its children; it stays away until `start`."""
        ...

    def start(self, name: str, **variables: str) -> None:
        """Start it, or start it anew, with these variables; returns when it is up."""
        ...

    def launch(self, name: str, **variables: str) -> None:
        """As `start`, without waiting until it is up."""
        ...

    def wait_until_up(self, name: str) -> None:
        """Return when it is up, or done."""
        ...

    def pid(self, name: str) -> int | None:
        """The process id, None while it is away."""
        ...

    def starts(self, name: str) -> int:
        """How often it was started so far."""
        ...

    def log(self, name: str) -> Path:
        """Its log file."""
        ...


class Cluster(Protocol):
    """PostgreSQL: a primary and its synchronous standby."""

    @property
    def primary(self) -> str:
        """The process name of the node that takes writes: postgres-a or postgres-b."""
        ...

    @property
    def standby(self) -> str:
        """The other one."""
        ...

    def address(self, name: str) -> tuple[str, int]:
        """Host and port of one of the two."""
        ...

    def promote(self) -> float:
        """Fence the primary (kill all of it), promote the standby, point the link to it.

        Returns the seconds from the kill until the new primary takes writes.
        """
        ...

    def make_standby(self) -> None:
        """Build the missing standby from the primary, and wait until it is synchronous again."""
        ...


class Load(Protocol):
    """Open-loop clients over HTTP that obey Retry-After and repeat with the same Idempotency-Key."""

    def start(self) -> None: ...

    def stop(self, *, seconds: float) -> None:
        """Begin no more requests; wait until those under way are answered, or `seconds` passed."""
        ...

    def acknowledged(self) -> int:
        """How many writes were answered 2xx so far."""
        ...

    def longest_silence(self, *, since: float, until: float) -> float:
        """The most seconds without an acknowledged write between two times of `time.monotonic()`."""
        ...


@dataclass(frozen=True)
class Stage:
    """The addresses of one running stack, and the hands that break and heal its parts."""

    home: Path
    # All of it through the proxies, as the service's own processes see it.
    web_url: str
    api_key: str
    database_url: str
    sqs_url: str
    # Beside the proxies: for the oracle, and for hands that break things. `admin_url` is the owner's
    # sign-in; libpq finds whichever node is the primary now.
    admin_url: str
    direct_web_url: str
    processor_url: str
    processor_key: str
    kafka_servers: str
    topic: str
    # What the service's processes are started with, and what `manage` uses: beside the proxies.
    environment: Mapping[str, str]
    clock_file: Path
    # How long SQS is away, in seconds, and the broker and the processor at most; less in a short run.
    away: float
    # postgres, sqs, processor, web. (Kafka's clients go where the broker says, past any proxy.)
    links: Mapping[str, Proxy]
    processes: Processes
    cluster: Cluster
    manage: Callable[..., "subprocess.CompletedProcess[str]"]
    # Waits, and raises Interrupted when the run is being ended.
    sleep: Callable[[float], None]


@dataclass(frozen=True)
class Outcome:
    """What a scenario found.

    `facts` are figures by name for the table (seconds, counts); `kills` are processes killed by the name
    of the failpoint; `skipped` says why it could not run here; `rewritten` are the ids of charges whose
    rows were edited behind the triggers; `poisoned` are messages that nobody can read, sent on purpose, by
    their id in the queue; `unfulfilled` says what did not come true (the run then fails).
    """

    facts: Mapping[str, float | int | str] = field(default_factory=dict)
    kills: Mapping[str, int] = field(default_factory=dict)
    skipped: str = ""
    unfulfilled: str = ""
    rewritten: Sequence[str] = ()
    poisoned: Sequence[str] = ()


@dataclass(frozen=True)
class Scenario:
    """One fault: its number of tests/RULES.md (a rule's, where no fault says what must come out of it), a
    sentence for the table, about how long it takes, and what it does.

    `run` breaks something while the load goes on, heals it, and returns when writes work again.
    """

    name: str
    faults: tuple[str, ...]
    what: str
    seconds: float
    run: Callable[["Stage"], Outcome]
    # Whether it is played again when the others are; one that makes much work is not.
    again: bool = True


@dataclass(frozen=True)
class Played:
    """A scenario that was played, when (`time.monotonic()`), and the longest time without writes."""

    scenario: Scenario
    outcome: Outcome
    began: float
    ended: float
    silence: float


class Verdict(Protocol):
    """The judgement over the whole run."""

    @property
    def holds(self) -> bool:
        """All invariants hold, no request finally failed, no acknowledged write was lost."""
        ...

    def text(self) -> str:
        """The tables for people."""
        ...
