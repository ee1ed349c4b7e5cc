"""Kept figures: charges by billing date and state, attempts by how they ended; added up, never counted.

Triggers add a row for each change in its own transaction (migration 0016), so no charge waits for
another's counter; `fold` makes one row of those of one key. Whoever adds up sees exactly what a count
over the tables would say in the same snapshot (R47), whatever was edited by hand.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from django.db import connection
from django.db.models import Sum

from checkout.clock import start_and_end
from checkout.models import UNCOLLECTED, AttemptTally, ChargeState, ChargeTally


@dataclass(frozen=True)
class Age:
    """Days since the billing date, both ends included; `most` is None for the oldest."""

    name: str
    least: int
    most: int | None

    @property
    def words(self) -> str:
        return f"{self.least} and more" if self.most is None else f"{self.least} to {self.most}"

    def days(self, today: date) -> tuple[date, date]:
        """The billing dates of this age, both ends included; a date to come is of the youngest."""
        first = date.min if self.most is None else today - timedelta(days=self.most)
        return first, date.max if self.least == 0 else today - timedelta(days=self.least)


AGES: Final = (
    Age("0-7", 0, 7),
    Age("8-30", 8, 30),
    Age("31-60", 31, 60),
    Age("61-90", 61, 90),
    Age("over-90", 91, None),
)


@dataclass(frozen=True)
class Layer:
    """States of a charge that a chart shows as one."""

    name: str
    states: tuple[ChargeState, ...]


# In the order in which they are stacked.
LAYERS: Final = (
    Layer("succeeded", (ChargeState.SUCCEEDED,)),
    Layer(
        "under way",
        (
            ChargeState.DUE,
            ChargeState.ATTEMPTING,
            ChargeState.PENDING,
            ChargeState.IN_DOUBT,
            ChargeState.FAILED_THEN_RETRY,
        ),
    ),
    Layer("exhausted", (ChargeState.EXHAUSTED,)),
    Layer("voided or written off", (ChargeState.VOIDED, ChargeState.WRITTEN_OFF)),
)


def layer_named(text: str) -> Layer | None:
    """The layer of this name; None for anything else."""
    return next((layer for layer in LAYERS if layer.name == text), None)


@dataclass(frozen=True)
class Tally:
    """How many, and how much USD."""

    count: int = 0
    usd: Decimal = Decimal("0.00")


def charges_by_state() -> Mapping[str, Tally]:
    """Every charge there is, by state."""
    rows = ChargeTally.objects.values("state").order_by("state")
    summed = rows.annotate(number=Sum("count"), money=Sum("usd"))
    return {row["state"]: Tally(row["number"], row["money"]) for row in summed if row["number"]}


def charges_of(
    *,
    states: Collection[str] = (),
    lane: str = "",
    first: date = date.min,
    last: date = date.max,
) -> Tally:
    """Charges of these states (none: any), of a lane, billed on these days, both included."""
    rows = ChargeTally.objects.filter(day__gte=first, day__lte=last)
    rows = rows.filter(state__in=states) if states else rows
    rows = rows.filter(lane=lane) if lane else rows
    found = rows.aggregate(number=Sum("count"), money=Sum("usd"))
    return Tally(found["number"] or 0, found["money"] or Decimal("0.00"))


def charges_by_day(*, first: date, last: date) -> Mapping[date, Mapping[str, Tally]]:
    """Charges by billing date, both ends included, and by state."""
    rows = ChargeTally.objects.filter(day__gte=first, day__lte=last).values("day", "state")
    days: dict[date, dict[str, Tally]] = {}
    for row in rows.order_by("day", "state").annotate(number=Sum("count"), money=Sum("usd")):
        if row["number"]:
            days.setdefault(row["day"], {})[row["state"]] = Tally(row["number"], row["money"])
    return days


def uncollected_by_age(today: date) -> Mapping[str, Tally]:
    """Every charge that is owed and not collected, by the name of its age in days."""
    states = [state.value for state in UNCOLLECTED]
    rows = ChargeTally.objects.filter(state__in=states).values("day").order_by("day")
    days = list(rows.annotate(number=Sum("count"), money=Sum("usd")))
    found = {}
    for age in AGES:
        first, last = age.days(today)
        own = [row for row in days if first <= row["day"] <= last]
        money = sum((row["money"] for row in own), Decimal("0.00"))
        found[age.name] = Tally(sum(row["number"] for row in own), money)
    return found


def declines_by_class(*, first: date, last: date) -> Mapping[str, Tally]:
    """Declined attempts of these days (UTC, business clock), both included, by class."""
    since, until = start_and_end(first, last)
    declined = AttemptTally.objects.filter(slot__gte=since, slot__lt=until, outcome="declined")
    rows = declined.values("decline_class")
    summed = rows.order_by("decline_class").annotate(number=Sum("count"), money=Sum("usd"))
    return {r["decline_class"]: Tally(r["number"], r["money"]) for r in summed if r["number"]}


_FOLD_CHARGES: Final = """
    WITH changed AS (
      SELECT day, lane, state FROM checkout_chargetally WHERE NOT is_folded GROUP BY 1, 2, 3
    ), taken AS (
      DELETE FROM checkout_chargetally t USING changed c
      WHERE (t.day, t.lane, t.state) = (c.day, c.lane, c.state) RETURNING t.*
    )
    INSERT INTO checkout_chargetally (day, lane, state, count, usd, is_folded)
    SELECT day, lane, state, sum(count), sum(usd), true FROM taken GROUP BY 1, 2, 3
    HAVING sum(count) <> 0 OR sum(usd) <> 0
"""
_FOLD_ATTEMPTS: Final = """
    WITH changed AS (
      SELECT slot, lane, outcome, decline_class FROM checkout_attempttally
      WHERE NOT is_folded GROUP BY 1, 2, 3, 4
    ), taken AS (
      DELETE FROM checkout_attempttally t USING changed c
      WHERE (t.slot, t.lane, t.outcome, t.decline_class)
        = (c.slot, c.lane, c.outcome, c.decline_class) RETURNING t.*
    )
    INSERT INTO checkout_attempttally (slot, lane, outcome, decline_class, count, usd, is_folded)
    SELECT slot, lane, outcome, decline_class, sum(count), sum(usd), true FROM taken
    GROUP BY 1, 2, 3, 4 HAVING sum(count) <> 0 OR sum(usd) <> 0
"""


def fold() -> int:
    """Make one row of the rows of each key; returns how many keys had changed.

    One statement a table: cut short, nothing has happened; run by two at once, each row is taken by
    one of them. A change that commits meanwhile is folded the next time.
    """
    folded = 0
    with connection.cursor() as cursor:
        for statement in (_FOLD_CHARGES, _FOLD_ATTEMPTS):
            cursor.execute(statement)
            folded += cursor.rowcount
    return folded
