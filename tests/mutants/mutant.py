"""A bug as a value: which words of the source are replaced by which, and what goes wrong then."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Unhooked(Exception):
    """The words to replace are not in the source exactly once: it was written anew meanwhile."""


@dataclass(frozen=True)
class Edit:
    """In `file` (below the project's root) the words `old`, which stand there once, become `new`."""

    file: str
    old: str
    new: str

    def applied_to(self, source: str) -> str:
        """The source with the bug in it; raises Unhooked."""
        found = source.count(self.old)
        if found != 1:
            raise Unhooked(f"{self.file} holds {found} times, not once: {self.old!r}")
        return source.replace(self.old, self.new)


@dataclass(frozen=True)
class Mutant:
    """One bug. `what` says in a sentence what the service would do, `source` where it is forbidden.

    `sql` runs once in the mutant's own database, such as a dropped index: the database's rules stand
    behind the code's, and some bugs would only meet them. `killed_by` names the test that finds what
    the simulation cannot show, such as two transactions at the same instant. `needs` names what a
    schedule's plan must have on for the bug to be met: those are tried first.
    """

    name: str
    what: str
    source: str
    edits: tuple[Edit, ...]
    sql: str = ""
    killed_by: str = ""
    needs: tuple[str, ...] = ()

    def files(self) -> set[str]:
        return {edit.file for edit in self.edits}

    def mutated(self, file: str, source: str) -> str:
        """The text of `file` with this mutant's edits of it; raises Unhooked."""
        for edit in self.edits:
            if edit.file == file:
                source = edit.applied_to(source)
        return source
