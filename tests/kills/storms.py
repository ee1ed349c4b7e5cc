"""Kills at random moments: several processes under a mixed load, each ended after some microseconds.

No failpoint says where; a death falls into a statement, a call, a commit or a wait for a lock.
"""

import mmap
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from checkout.models import Door
from tests.kills.campaign import Progress
from tests.kills.forks import fork, serve
from tests.kills.outside import Ask
from tests.kills.yard import Yard, complaints

TOGETHER = 3
LONGEST_SECONDS = 0.4
BATCH = 60
WORD = 24
# The API and the worker are where money moves, so they are met more often.
ACTS: tuple[tuple[int, str, Callable[[Yard], object]], ...] = (
    (4, "checkout", lambda yard: yard.post(yard.new_order())),
    (8, "receive", Yard.receive),
    (3, "relay sqs", lambda yard: yard.relay(Door.SQS, limit=yard.rng.choice([1, 3, 1000]))),
    (2, "relay kafka", lambda yard: yard.relay(Door.KAFKA, limit=yard.rng.choice([1, 3, 1000]))),
    (2, "resolve", Yard.resolve),
    (1, "webhooks", Yard.apply_webhooks),
    (1, "sweep", Yard.sweep),
    (1, "drain", Yard.drain),
    (1, "bill", Yard.bill),
    (1, "dunning", Yard.open_next_rounds),
    (1, "reconcile", Yard.reconcile),
)


@dataclass
class Storm:
    """How many died, in the middle of what, and what was wrong afterwards."""

    kills: int = 0
    during: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def told(self) -> str:
        """The figures, in a few lines."""
        during = ", ".join(f"{name} {count}" for name, count in self.during.most_common())
        return (
            f"{self.kills} kills at random moments, {len(self.violations)} violations,"
            f" {self.kills / self.seconds:.1f} kills a second; in the middle of: {during}"
        )


def run_storm(*, times: int, seed: int = 1, progress: Progress = lambda _: None) -> Storm:
    """Kill `times` processes at random moments, `TOGETHER` at work at once."""
    storm, begun = Storm(), time.monotonic()
    while storm.kills < times:
        yard = Yard(seed=10_000 * seed + storm.kills)
        with complaints(yard):
            for _ in range(min(BATCH, times - storm.kills) // TOGETHER + 1):
                crowd(yard, storm, progress=progress)
            storm.violations += yard.violations()
    storm.seconds = time.monotonic() - begun
    return storm


def crowd(yard: Yard, storm: Storm, *, progress: Progress) -> None:
    """Some processes work beside each other until each is killed at its moment; then time passes."""
    words = [mmap.mmap(-1, WORD) for _ in range(TOGETHER)]
    children = [
        fork(partial(at_work, yard, word), dies_after=yard.rng.uniform(0, LONGEST_SECONDS))
        for word in words
    ]
    serve(children, yard.ask)
    storm.kills += TOGETHER
    storm.during.update(word[:].rstrip(b"\0").decode() or "idle" for word in words)
    progress(TOGETHER)
    yard.catch_up()
    if yard.rng.random() < 0.3:
        yard.wait(yard.rng.choice([61, 301, 1300]))
    if yard.rng.random() < 0.05:
        yard.clock.move_business(days=yard.rng.choice([4, 31]))


def at_work(yard: Yard, word: mmap.mmap, ask: Ask) -> None:
    """Act after act until the end, which comes from outside."""
    yard.enter_child(ask)
    for name, act in acts(yard.rng):
        word[:] = name.encode().ljust(WORD, b"\0")
        act(yard)


def acts(rng: random.Random) -> Iterator[tuple[str, Callable[[Yard], object]]]:
    weights = [weight for weight, _, _ in ACTS]
    while True:
        [(_, name, act)] = rng.choices(ACTS, weights)
        yield name, act
