"""The scenarios, in the order in which they are played: each breaks one thing under load and heals it.

What they count on: the load's cards include those that leave the processor's answer open (the resolver
must have work), soft declines (messages that are left) and declines for funds (dates to wait for), and
weekly plans (a week's jump of the clock bills somebody). A new scenario is a function of the stage that
returns an Outcome, and a line in one of the lists of `outages`, `brokers` or `kills`; a new failpoint
needs its place in `kills.PLACES` or `kills.COMMANDS`, else a test fails.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from chaos import brokers, kills, outages
from chaos.stage import Scenario

EVERY: Final[tuple[Scenario, ...]] = (
    *kills.at_every_failpoint()[:1],
    *outages.SCENARIOS,
    *brokers.SCENARIOS,
    *kills.WHOLE,
    *kills.at_every_failpoint()[1:],
)


class UnknownScenario(Exception):
    """No scenario has this name; the text lists those that are there."""


def chosen(*, names: Sequence[str]) -> list[Scenario]:
    """The scenarios of these names, in their order; all of them, if none is named. Raises UnknownScenario."""
    known = {scenario.name: scenario for scenario in EVERY}
    if unknown := [name for name in names if name not in known]:
        raise UnknownScenario(f"no scenario is {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in names] if names else list(EVERY)


def programme(scenarios: Sequence[Scenario], *, left: Callable[[], float]) -> Iterator[Scenario]:
    """What is played: all in order, then again in order, as long as the `left` seconds allow.

    One that would not fit any more is passed over; the end is when none fits.
    """
    again = list(scenarios)
    while again:
        fitted = False
        for scenario in again:
            if scenario.seconds <= left():
                fitted = True
                yield scenario
        if not fitted:
            return
        again = [scenario for scenario in scenarios if scenario.again]


def table(scenarios: Sequence[Scenario]) -> str:
    """Names, fault numbers and what is done, for people."""
    return "\n".join(
        f"{scenario.name:28} {', '.join(scenario.faults):10} {scenario.what}"
        for scenario in scenarios
    )
