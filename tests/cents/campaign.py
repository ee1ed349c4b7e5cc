"""Rounds of planted cents: edit, look at what changed, look at everything, put back, look again.

1. Each cent of a round gets a place by weight and a unit (creator, payout, file) of its own.
2. All are edited in one transaction, past every trigger but those that fire always.
3. One incremental pass, then one full pass: each time exactly what must be named stands, and no more.
4. All are put back; one incremental pass: nothing stands, every discrepancy is cleared by evidence.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Final

from django.db import connection

from checkout.clock import Ages, Clock
from checkout.money import CENT
from settlements import reconciliation
from settlements.models import Discrepancy
from tests.cents.places import PLACES, Apart, Facts, Named, Place
from tests.factories_settlements import triggers_off

# Of what is wrong, as many are told.
MOST_TOLD: Final = 20


@dataclass(frozen=True)
class Cent:
    """One cent (USD, either way) of one row of a place."""

    place: Place
    facts: Facts
    cent: Decimal

    @property
    def named(self) -> Named:
        return self.place.named(self.facts, self.cent)


@dataclass
class Tally:
    """What came of all rounds; `wrong` says, in sentences, whatever did not come out as it must."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    findings: int = 0
    false_alarms: int = 0
    left: int = 0
    wrong: list[str] = field(default_factory=list)
    # Of each incremental pass, from the commit of the cents until they stand.
    seconds: list[float] = field(default_factory=list)


def plant(
    *,
    times: int,
    at_once: int,
    seed: int,
    clock: Clock,
    ages: Ages,
    progress: Callable[[int], None] = lambda _: None,
) -> Tally:
    """Plant so many cents, `at_once` a round; nothing may stand before."""
    tally, chance = Tally(), random.Random(seed)
    while sum(tally.planted.values()) < times:
        count = min(at_once, times - sum(tally.planted.values()))
        cents = choose(count, chance)
        play(cents, tally, clock=clock, ages=ages)
        progress(len(cents))
    reconciliation.reconcile(clock=clock, ages=ages)
    tally.left += len(standing())
    return tally


def play(cents: Sequence[Cent], tally: Tally, *, clock: Clock, ages: Ages) -> None:
    """One round; what was wrong is added to the tally."""
    must = {name: usd for cent in cents for name, usd in cent.named.items()}
    tally.planted.update(cent.place.name for cent in cents)
    edit(cents, 1)
    begun = time.perf_counter()
    reconciliation.reconcile_incremental(clock=clock, ages=ages)
    tally.seconds.append(time.perf_counter() - begun)
    stands = standing()
    named = [cent for cent in cents if cent.named.items() <= stands.items()]
    tally.found.update(cent.place.name for cent in named)
    tally.findings += len(stands)
    tally.false_alarms += len(stands.keys() - must.keys())
    compare(must, stands, "an incremental pass", tally)
    reconciliation.reconcile(clock=clock, ages=ages)
    compare(must, standing(), "a full pass", tally)
    edit(cents, -1)
    reconciliation.reconcile_incremental(clock=clock, ages=ages)
    left = standing()
    tally.left += len(left)
    compare({}, left, "all were put back", tally)


def choose(count: int, chance: random.Random) -> list[Cent]:
    """Cents of places by weight, no two on the same unit; fewer where there are not units enough."""
    weights = [place.weight for place in PLACES]
    wanted = Counter(place.name for place in chance.choices(PLACES, weights, k=count))
    units = {apart: iter(shuffled(apart, chance)) for apart in Apart}
    cents = []
    for place in PLACES:
        own = list(islice(units[place.apart], wanted[place.name]))
        cents += [
            Cent(place, row, chance.choice((CENT, -CENT))) for row in rows(place, own, chance)
        ]
    return cents


def shuffled(apart: Apart, chance: random.Random) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"{apart.value} ORDER BY id")
        units = [unit for (unit,) in cursor.fetchall()]
    chance.shuffle(units)
    return units


def rows(place: Place, units: Sequence[str], chance: random.Random) -> list[Facts]:
    """A row of the place for each unit, any of them."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT ON (unit) * FROM ({place.find}) found WHERE unit = ANY(%s)"
            " ORDER BY unit, md5(id || %s)",
            [list(units), str(chance.random())],
        )
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def edit(cents: Sequence[Cent], sign: int) -> None:
    """Move every cent (or, with -1, move it back) in one transaction behind the service."""
    with triggers_off() as cursor:
        for place in PLACES:
            own = [cent for cent in cents if cent.place is place]
            if own:
                ids = [cent.facts["id"] for cent in own]
                cursor.execute(place.edit, {"ids": ids, "cents": [sign * c.cent for c in own]})


def standing() -> Named:
    """Every discrepancy that is not cleared, with its difference in USD."""
    rows = Discrepancy.objects.filter(cleared_at__isnull=True)
    return dict(rows.values_list("fingerprint", "difference"))


def compare(must: Named, stands: Named, after: str, tally: Tally) -> None:
    said = [
        f"after {after} {name} of {usd} is not named"
        for name, usd in must.items()
        if name not in stands
    ]
    said += [
        f"after {after} {name} stands with {stands[name]} instead of {usd}"
        for name, usd in must.items()
        if stands.get(name, usd) != usd
    ]
    said += [
        f"after {after} {name} of {usd} is a false alarm"
        for name, usd in stands.items()
        if name not in must
    ]
    tally.wrong += said[: max(0, MOST_TOLD - len(tally.wrong))]
