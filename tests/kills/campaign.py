"""Kills at every failpoint: the run, and its table failpoint → kills → what healed it → violations."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from tests.kills.forks import NotKilled, killed_at
from tests.kills.outside import Ask
from tests.kills.places import Place
from tests.kills.yard import Yard, complaints

ROUNDS = 4
Progress = Callable[[int], object]
_seeds = count(1)


@dataclass
class Row:
    """What became of the deaths at one place."""

    name: str
    what: str
    kills: int = 0
    healers: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    missed: bool = False


def run_place(place: Place, *, times: int, progress: Progress = lambda _: None) -> Row:
    """Kill `times` processes there, in worlds of `place.batch`; each world is healed and judged.

    It ends early, with that as a violation, once a process does not die where it is to.
    """
    row, begun = Row(place.name, place.what), time.monotonic()
    while row.kills < times and not row.missed:
        run_world(place, row, times=min(place.batch, times - row.kills), progress=progress)
    row.seconds = time.monotonic() - begun
    return row


def run_world(place: Place, row: Row, *, times: int, progress: Progress) -> None:
    """One world with so many deaths in it; a child that did not die where it should ends it."""
    with yard_of(place) as yard:
        end = row.kills + times
        try:
            while row.kills < end:
                about = kill(place, yard, most=end - row.kills, progress=progress, row=row)
                row.healers[carry_on(place, yard, about)] += 1
                yard.empty_queue()
        except NotKilled as ended:
            row.missed = True
            row.violations.append(str(ended))
        row.violations += yard.violations()


@contextmanager
def yard_of(place: Place) -> Iterator[Yard]:
    yard = Yard(seed=next(_seeds), **place.plan)
    with complaints(yard):
        try:
            yield yard
        finally:
            yard.close()


def kill(place: Place, yard: Yard, *, most: int, progress: Progress, row: Row) -> Any:
    """Prepare what the death is about, and let `place.deaths` processes die of it."""
    about = place.before(yard)
    for number in range(min(place.deaths, most)):
        if number and place.waits:
            yard.visibility_over()
        killed_at(place.name, partial(in_child, yard, place, about), answer=yard.ask, nth=place.nth)
        row.kills += 1
        progress(1)
    yard.catch_up()
    return about


def in_child(yard: Yard, place: Place, about: Any, ask: Ask) -> object:
    yard.enter_child(ask)
    return place.work(yard, about)


def carry_on(place: Place, yard: Yard, about: Any) -> str:
    """Others carry on, one after the other, until it is healed; the name of the one that healed it."""
    for _ in range(ROUNDS):
        for name, act in place.carriers.items():
            act(yard, about)
            yard.catch_up()
            if place.healed(yard, about):
                return name
    yard.outside.complaints.append(f"not healed by {', '.join(place.carriers)}: {about}")
    return "nobody"


HEAD = f"{'failpoint':<27}{'of':<32}{'kills':>6}  {'healed by':<48}violations"


def line(row: Row) -> str:
    """What became of the deaths at one place."""
    healed = ", ".join(f"{name} {n}" for name, n in row.healers.most_common())
    return f"{row.name:<27}{row.what:<32}{row.kills:>6}  {healed:<48}{len(row.violations)}"


def total(rows: list[Row]) -> str:
    """The sum of all places."""
    kills, seconds = sum(row.kills for row in rows), sum(row.seconds for row in rows)
    wrong = sum(len(row.violations) for row in rows)
    rate = kills / seconds if seconds else 0.0
    return f"{kills} kills, {wrong} violations, {rate:.1f} kills a second"
