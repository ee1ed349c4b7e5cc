"""The known seeds, and docs/mutants.md, which is written from them and the registry."""

import json
from typing import Any, Final

from tests.mutants.finding import Finding
from tests.mutants.mutant import ROOT, Mutant
from tests.mutants.registry import MUTANTS

SEEDS: Final = ROOT / "tests/mutants/seeds.json"
PAGE: Final = ROOT / "docs/mutants.md"

_HEAD: Final = """# Bugs put in on purpose

Written by `python -m tests.mutants --renew`; the bugs stand in tests/mutants/. Each is switched on alone
and looked for by the seeded simulation (docs/reliability.md), schedules 0, 1, 2 and so on, at most 300.
"Schedule" is the place of one that finds it, so it takes at most so many. A few bugs are nothing the
simulation can show: a test of their own finds those, and is named.

`make mutants` tries all, `make mutants ONLY=name` one of them. `make test` tries each against the seed
that found it; where the simulation was changed since, it goes through the others until it is found.
"""


def read_seeds() -> dict[str, int]:
    """The seed that finds a mutant, by its name."""
    return {name: found["seed"] for name, found in _read().items()}


def remember(finding: Finding) -> None:
    """Keep the seed of a finding; forget that of a mutant that lived."""
    kept = _read()
    kept.pop(finding.mutant, None)
    if finding.seed is not None:
        kept[finding.mutant] = {
            "seed": finding.seed,
            "how": finding.how,
            "sentence": finding.sentence[:160],
        }
    names = [mutant.name for mutant in MUTANTS if mutant.name in kept]
    lines = [
        f"  {json.dumps(name)}: {json.dumps(kept[name], ensure_ascii=False)}" for name in names
    ]
    SEEDS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def write() -> None:
    """Write docs/mutants.md."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """What docs/mutants.md says, from the registry and the seeds."""
    kept = _read()
    found = [mutant for mutant in MUTANTS if mutant.name in kept]
    rows = [_row(mutant, kept[mutant.name]) for mutant in found]
    tested = [mutant for mutant in MUTANTS if mutant.killed_by]
    worst = max((kept[mutant.name]["seed"] + 1 for mutant in found), default=0)
    parts = [
        _HEAD,
        f"{len(found)} are found by the simulation, within {worst} schedules; {len(tested)} by a test"
        " of their own.\n",
        "| bug | what the service would do | forbidden by | schedule | shown by |",
        "|---|---|---|---:|---|",
        *rows,
        "",
        "## Found by a test of their own",
        "",
        "| bug | what the service would do | forbidden by | test |",
        "|---|---|---|---|",
        *(f"| {m.name} | {_cell(m.what)} | {_cell(m.source)} | `{m.killed_by}` |" for m in tested),
        "",
        *_open_questions([m for m in MUTANTS if m not in found and m not in tested]),
    ]
    return "\n".join(parts)


def _open_questions(mutants: list[Mutant]) -> list[str]:
    if not mutants:
        return []
    return [
        "## Not decided",
        "",
        "No schedule that was tried has found these yet, and fewer than 300 were tried. `make mutants` tries",
        "them as well; `--renew` moves what it finds into the table. What survives 300 is a hole in the oracle.",
        "",
        *(f"- {m.name}: {m.what} ({m.source})" for m in mutants),
        "",
    ]


def _row(mutant: Mutant, found: dict[str, Any]) -> str:
    shown = f"{found['how']}: {_cell(found['sentence'])}"
    return (
        f"| {mutant.name} | {_cell(mutant.what)} | {_cell(mutant.source)} | {found['seed'] + 1}"
        f" | {shown} |"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _read() -> dict[str, dict[str, Any]]:
    if not SEEDS.exists():
        return {}
    kept: dict[str, dict[str, Any]] = json.loads(SEEDS.read_text(encoding="utf-8"))
    return kept
