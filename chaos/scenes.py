"""The scenarios in the order in which they are played: each breaks one thing under load and heals it.

The seam (see stage.py for the types):

- The runner opens the stack, an account with an API key, plans and routing rules, and then calls
  `load.open_load(stage, rate=requests a second, seed=seed)`, `start()`, the scenarios, `stop(seconds=…)`,
  waits until nothing is under way, and calls `verdict.judge(stage=stage, load=load, played=[Played, …])`,
  whose `text()` it prints and whose `holds` decides the exit code.
- The load registers its own creators by POST and starts their checkouts; the mix of tokens holds enough
  of what the scenarios need: tok_timeout_after_charge, tok_500_after_charge, tok_lost (the resolver must
  have work), tok_decline_soft (messages that are left), tok_pending, besides tok_approve.
- `Outcome.rewritten` names the charges which F27 edited behind the triggers and put right again by hand:
  a discrepancy about them was the aim.
- The verdict prints seconds without writes (by scenario and the most), kills by failpoint (those of
  `Outcome.kills`), failover seconds (`Outcome.facts["failover seconds"]`), finally failed requests,
  acknowledged writes lost, I1 to I6 with the number looked at.
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
        raise UnknownScenario(f"{', '.join(unknown)}: there are {', '.join(known)}")
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
