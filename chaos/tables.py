"""The verdict as tables for people."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaos.figures import Finding, Window
from chaos.invariants import Claim
from chaos.stage import Played

WIDTH: Final = 150
EXAMPLES: Final = 5


def tables(
    *,
    claims: Sequence[Claim],
    played: Sequence[Played],
    windows: Sequence[Window],
    findings: Sequence[Finding],
    kills: Mapping[str, int],
    lost: int,
    rest_seconds: float,
) -> str:
    """Scenarios, load, kills, invariants; then what is wrong, with examples; then one line."""
    console = Console(width=WIDTH, highlight=False)
    with console.capture() as capture:
        if played:
            console.print(_scenarios(played))
        console.print(_load(windows))
        if kills:
            console.print(_kills(kills))
        console.print(_claims(claims))
        for line in _wrong(claims, findings):
            console.print(line, soft_wrap=True)
        console.print(_in_one_line(claims, windows[-1], lost, rest_seconds), soft_wrap=True)
    return capture.get()


def _plain(title: str, *columns: str, left: int = 1) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < left else "right", overflow="fold")
    return table


def _scenarios(played: Sequence[Played]) -> Table:
    table = _plain(
        "Scenarios", "", "scenario", "faults", "what was found", "seconds", "without writes", left=4
    )
    for one in played:
        outcome = one.outcome
        facts = ", ".join(f"{name} {value}" for name, value in outcome.facts.items())
        said = outcome.unfulfilled or (outcome.skipped and f"skipped: {outcome.skipped}") or facts
        mark = "[yellow]–[/]" if outcome.skipped else _mark(not outcome.unfulfilled)
        table.add_row(
            mark,
            one.scenario.name,
            " ".join(one.scenario.faults),
            escape(said),
            f"{one.ended - one.began:.1f}",
            f"{one.silence:.1f}",
        )
    return table


def _load(windows: Sequence[Window]) -> Table:
    table = _plain(
        "Load, as its clients saw it (seconds; with repetitions and waits)",
        *("window", "arrivals", "shed", "requests", "repeated", "written", "failed"),
        *("p50", "p95", "p99", "without writes", "answers"),
    )
    for one in windows:
        answers = " ".join(f"{said}:{count}" for said, count in one.answers.items())
        table.add_row(
            one.name,
            *map(str, (one.arrivals, one.shed, one.requests, one.repeated, one.acknowledged)),
            str(one.failed),
            *(f"{value:.2f}" for value in (one.p50, one.p95, one.p99)),
            f"{one.gap:.1f}",
            answers,
        )
    return table


def _kills(kills: Mapping[str, int]) -> Table:
    table = _plain("kill -9, by failpoint", "failpoint", "times")
    for name, times in kills.items():
        table.add_row(name, str(times))
    table.add_row("all", str(sum(kills.values())))
    return table


def _claims(claims: Sequence[Claim]) -> Table:
    table = _plain("What must hold", "", "invariant", "what", "looked at", "violations", left=3)
    for claim in claims:
        table.add_row(
            _mark(claim.holds),
            claim.invariant,
            claim.says,
            str(claim.looked_at) if claim.looked_at else "[red]0: no proof[/]",
            str(len(claim.violations)),
        )
    return table


def _wrong(claims: Sequence[Claim], findings: Sequence[Finding]) -> Iterator[str]:
    for claim in claims:
        for violation in islice(claim.violations, EXAMPLES):
            yield f"[red]{claim.invariant}[/] {claim.says}: {escape(violation)}"
        if (more := len(claim.violations) - EXAMPLES) > 0:
            yield f"[red]{claim.invariant}[/] … and {more} more"
    if findings:
        yield f"The first finding of a client came {findings[0].at:.1f} s after the load began."


def _in_one_line(claims: Sequence[Claim], whole: Window, lost: int, rest_seconds: float) -> str:
    bad = [claim for claim in claims if not claim.holds]
    said = "[red]It does not hold[/]" if bad else "[green]All holds[/]"
    return (
        f"{said}: {len(claims) - len(bad)} of {len(claims)} claims;"
        f" acknowledged writes lost: {lost}; requests finally failed: {whole.failed};"
        f" longest without writes: {whole.gap:.1f} s; at rest after {rest_seconds:.1f} s."
    )


def _mark(good: bool) -> str:  # noqa: FBT001  what is marked
    return "[green]✓[/]" if good else "[red]✗[/]"
