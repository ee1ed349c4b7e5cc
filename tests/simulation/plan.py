"""What one schedule is made of, drawn from its seed; and which faults the simulation knows.

Four kinds of schedule: calm ones (I7), one fault alone, two together, and swarms, in which each seed
draws how hot every fault is, who acts, and which rescuers rest until healing.
"""

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Self

# Where the layer below is the real thing, and a simulation of it would only show the simulation.
ELSEWHERE: Final = {
    "F19": "a full disk is PostgreSQL's own doing: the chaos runs fill a small file system",
    "F26": "two versions of the code are two processes; old messages are the queue's tests",
    "F28": "a restore is a step of the runbook, by people; it comes with its own issue",
    "F32": "there is no hosted page yet; its attempts (kind page) are in the tests of the states",
}
"""F-numbers that are shown in the process layer, or with the feature they belong to, and why."""

# What one fault alone turns on. `narrow` keeps crashes, network faults and queue faults to these.
FAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "F1": {"crash": 0.5, "narrow": {"api.before_commit"}},
    "F2": {"crash": 0.5, "narrow": {"api.after_commit", "client.unanswered"}},
    "F3": {"commits": 0.12},
    "F4": {"crash": 0.4, "narrow": {"relay.before_send"}},
    "F5": {"crash": 0.4, "narrow": {"relay.sent_unmarked"}},
    "F6": {"crash": 0.4, "narrow": {"worker.received"}},
    "F7": {"crash": 0.4, "narrow": {"charging.intent_committed", "charging.before_send"}},
    "F8": {"network": 0.5, "narrow": {"lost", "late", "refused"}},
    "F9": {"network": 0.5, "narrow": {"answer lost", "500 after"}},
    "F10": {"crash": 0.4, "narrow": {"charging.answered"}},
    "F11": {"crash": 0.4, "narrow": {"charging.outcome_committed"}},
    "F12": {"freeze": 0.5},
    "F13": {"freeze": 0.5, "webhooks": "all", "busy": True},
    "F14": {"kafka_away": True},
    "F15": {"crash": 0.4, "narrow": {"relay.sent_unmarked", "relay.marked"}},
    "F16": {"broker": 0.4},
    "F17": {"crash": 0.5, "narrow": {"topic.read", "topic.records_stored"}, "reconcile": True},
    "F18": {"outage": 0.02, "away": 0.1},
    "F20": {"slow": True},
    "F21": {"jumps": True},
    "F22": {"poison": True},
    "F23": {"queue": True, "narrow": {"repeat", "republish"}},
    "F24": {"forged": True, "webhooks": "all"},
    "F25": {"queue": True, "away": 0.5, "narrow": {"redrive"}},
    "F27": {"chaos": True, "reconcile": True},
    "F29": {"sqs_away": True},
    "F30": {"queue": True, "narrow": {"lose"}},
    "F31": {"processor_away": True},
    "F33": {"people": True, "busy": True},
}
"""The F-numbers that are simulated, each with what makes a schedule of it alone."""

JOBS: Final = ("resolve", "sweep", "drain", "dunning", "bill", "reconcile")


@dataclass(frozen=True)
class Plan:
    """One schedule's configuration. Probabilities are per occasion."""

    seed: int
    steps: int = 60
    calm: bool = False
    # The F-numbers of a schedule of one or two faults; empty for a swarm.
    alone: frozenset[str] = frozenset()
    workers: int = 2
    creators: int = 2
    # Of a crash where a turn waits, of a fault of a call, of a freeze, of a lost commit, of a
    # database that is away for a worker, of a connection that breaks at a statement, of a broker
    # that takes a part of a batch.
    crash: float = 0.0
    network: float = 0.0
    freeze: float = 0.0
    commits: float = 0.0
    away: float = 0.0
    outage: float = 0.0
    broker: float = 0.0
    narrow: frozenset[str] = frozenset()
    slow: bool = False
    kafka_away: bool = False
    sqs_away: bool = False
    processor_away: bool = False
    queue: bool = False
    chaos: bool = False
    poison: bool = False
    forged: bool = False
    people: bool = False
    busy: bool = False
    jumps: bool = False
    # Jobs that do not run before healing.
    without: frozenset[str] = frozenset()
    # A door's lock is lost, so that two lead at once.
    two_leaders: bool = False
    # A process may freeze between its look at the time and its first byte, and a request may be under
    # way for hours: then a second capture cannot be ruled out, but it must be found and kept (R22).
    last_defence: bool = False
    shorts: bool = False
    # Workers and drains die in healing too, and their messages become dead letters (deaths.py).
    deaths: bool = False
    # A person, a pause, hours or an empty queue meet just the charge that is being attempted.
    meetings: bool = False
    # Most cards are refused softly, again and again.
    soft_cards: bool = False
    # How often a card may be tried within its window (R30).
    card_tries: int = 15
    # Faults also strike where an outcome hangs on them, in healing too (doubts.py).
    doubts: bool = False
    # Time passes in minutes alone, so that what is late is still under way when we ask.
    minutes: bool = False
    idempotent_hours: float = 24.0
    webhooks: str = "resolved"
    reconcile: bool = False
    # Statement files come; late, doubled and torn ones; and ones with a line that is wrong.
    statements: bool = False
    torn: bool = False
    planted: bool = False
    # After everything: a full pass must find what the incremental one found (R55); and rows are
    # edited by a cent, which must be named.
    full: bool = False
    audit: bool = False
    only: frozenset[str] = frozenset()

    @classmethod
    def drawn(cls, seed: int, *, steps: int) -> Self:
        """The configuration of a seed; the same for ever, unless this function changes."""
        rng = random.Random(f"plan:{seed}")
        kind = rng.random()
        if kind < 0.12:
            return cls._calm(seed, steps, rng)
        if kind < 0.30:
            return cls.of([rng.choice(list(FAULTS))], seed=seed, steps=steps)
        if kind < 0.50:
            return cls.of(rng.sample(list(FAULTS), 2), seed=seed, steps=steps)
        return cls._swarm(seed, steps, rng)

    @classmethod
    def _calm(cls, seed: int, steps: int, rng: random.Random) -> Self:
        return cls(
            seed=seed,
            steps=steps,
            calm=True,
            people=rng.random() < 0.5,
            workers=rng.choice([1, 2]),
            reconcile=rng.random() < 0.3,
            statements=rng.random() < 0.4,
            full=rng.random() < 0.3,
        )

    @classmethod
    def of(cls, faults: Iterable[str], *, seed: int, steps: int) -> Self:
        """A schedule of these faults of FAULTS and no others."""
        chosen = sorted(faults)
        rng = random.Random(f"plan of {chosen}: {seed}")
        some: dict[str, Any] = {
            "webhooks": rng.choice(["none", "resolved", "all"]),
            "people": rng.random() < 0.3,
            "minutes": rng.random() < 0.7,
            "creators": rng.choice([1, 2]),
            "reconcile": rng.random() < 0.2,
            "statements": rng.random() < 0.3,
            "full": rng.random() < 0.3,
        }
        narrow: set[str] = set()
        for fault in chosen:
            some |= _hot(fault)
            narrow |= set(FAULTS[fault].get("narrow", ()))
        return cls(
            seed=seed, steps=steps, alone=frozenset(chosen), narrow=frozenset(narrow), **some
        )

    @classmethod
    def _swarm(cls, seed: int, steps: int, rng: random.Random) -> Self:
        some = {name: rng.choice(levels) for name, levels in _LEVELS.items()}
        without = frozenset(job for job in JOBS if rng.random() < 0.25)
        # From streams of their own, so that the other draws stay as they are.
        some["deaths"] = random.Random(f"deaths:{seed}").random() < 0.25
        for name, levels in _MORE.items():
            some[name] = random.Random(f"plan of {seed}: {name}").choice(levels)
        if some["jumps"]:  # months of charges are much to do already, and all wait for one card
            some |= {"meetings": False, "soft_cards": False, "card_tries": 15}
        doubtful = random.Random(f"doubtful {seed}").random() < 0.2
        some["doubts"] = doubtful and not some["meetings"]
        return cls(seed=seed, steps=steps, without=without, **some)

    def allows(self, name: str) -> bool:
        """Whether a crash, a network fault or a queue fault of this name may strike."""
        return not self.narrow or name in self.narrow

    def as_json(self) -> str:
        """What differs from a plain plan, to be read by `from_json`."""
        plain = asdict(Plan(seed=self.seed))
        mine = {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name, value in asdict(self).items()
            if name == "seed" or value != plain[name]
        }
        return json.dumps(mine, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """A plan that was printed; names that are gone since are left out. Raises TypeError."""
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in json.loads(text).items() if name in known}
        sets = {name: frozenset(v) for name, v in values.items() if isinstance(v, list)}
        plain = asdict(cls(seed=0))
        for name, value in (values | sets).items():
            kinds = (int, float) if type(plain[name]) is float else (type(plain[name]),)
            if type(value) not in kinds:
                raise TypeError(f"{name} is {value!r}")
        return cls(**(values | sets))

    def smaller(self) -> Iterable["Plan"]:
        """Plans with fewer steps or with one thing less, the boldest first."""
        for steps in (self.steps // 2, self.steps - 8, self.steps - 3, self.steps - 1):
            if 0 < steps < self.steps:
                yield replace(self, steps=steps)
        plain = Plan(seed=self.seed)
        for field in fields(self):
            if field.name not in {"seed", "steps", "calm", "alone", "narrow", "only", "workers"}:
                value = getattr(plain, field.name)
                if getattr(self, field.name) != value:
                    yield replace(self, **{field.name: value})
        if self.creators > 1:
            yield replace(self, creators=1)


def _hot(fault: str) -> dict[str, Any]:
    return {name: value for name, value in FAULTS[fault].items() if name != "narrow"}


_LEVELS: Final[Mapping[str, tuple[Any, ...]]] = {
    "crash": (0.0, 0.05, 0.25),
    "network": (0.0, 0.1, 0.5),
    "freeze": (0.0, 0.1, 0.4),
    "commits": (0.0, 0.0, 0.03),
    "away": (0.0, 0.0, 0.1),
    "outage": (0.0, 0.0, 0.0, 0.005, 0.02),
    "broker": (0.0, 0.0, 0.2),
    "slow": (*(False,) * 7, True),
    "kafka_away": (*(False,) * 4, True),
    "sqs_away": (*(False,) * 4, True),
    "processor_away": (*(False,) * 5, True),
    "queue": (False, False, True),
    "chaos": (False, False, True),
    "poison": (*(False,) * 5, True),
    "forged": (*(False,) * 5, True),
    "people": (False, True, True),
    "busy": (*(False,) * 3, True),
    "jumps": (*(False,) * 3, True),
    "two_leaders": (False, False, True),
    "last_defence": (False, False, False, False, False, True),
    "shorts": (False, False, True),
    "minutes": (False, True),
    "idempotent_hours": (24.0, 24.0, 2.0),
    "webhooks": ("none", "resolved", "all"),
    "workers": (2, 2, 3),
    "creators": (1, 2, 3),
    "reconcile": (False, False, True),
    "statements": (False, False, True),
    "torn": (False, True),
    "planted": (False, False, True),
    "full": (False, False, True),
    "audit": (*(False,) * 4, True),
}

# Drawn apart, each from a stream of its own, so that what is added here leaves the other plans alone.
_MORE: Final[Mapping[str, tuple[Any, ...]]] = {
    "meetings": (*(False,) * 3, True),
    "soft_cards": (*(False,) * 4, True),
    "card_tries": (*(15,) * 5, 3),
}
