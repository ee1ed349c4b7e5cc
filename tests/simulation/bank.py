"""The processor's statement files, as they reach the importer: late, doubled, torn, or with a wrong line.

A wrong line keeps the file's sums, so that it is accepted: only reconciliation can name it.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from settlements.formats.lines import Refused
from settlements.models import StatementImport
from settlements.statements import import_statement
from tests.fakes import START
from tests.simulation.database import looking_on
from tests.simulation.network import LANE

if TYPE_CHECKING:
    from tests.simulation.world import World

DAY = timedelta(days=1)
CENT = Decimal("0.01")
STRANGERS = UUID("0c2f6a0e-52a5-5a43-9d5f-2f6f0f7b8f10")


@dataclass(frozen=True)
class File:
    """The file of one stretch of days, both included."""

    first: date
    last: date
    text: str

    @property
    def name(self) -> str:
        return f"{self.first}-{self.last}.csv"

    @property
    def charges(self) -> list[str]:
        return [row for row in self.text.splitlines() if row.split(",")[1] == "charge"]


@dataclass(frozen=True)
class Wrong:
    """A line that was made wrong on purpose: what reconciliation must say of it, by its key."""

    code: str
    key: UUID
    difference: Decimal


class Bank:
    """Writes a file for every day that is over on the business clock, and brings the files."""

    def __init__(self, world: "World", folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.next_day = START.date()
        self.files: list[File] = []  # not brought yet
        self.brought: list[File] = []
        self.wrong: list[Wrong] = []

    def close_days(self) -> None:
        """Write the files of the days that are over since the last ones."""
        world = self.world
        yesterday = world.clock.business_now().date() - DAY
        while self.next_day <= yesterday:
            last = min(yesterday, self.next_day + DAY * world.rng.choice([0, 2, 40]))
            text = world.processor.statement(account=LANE, first=self.next_day, last=last)
            file = File(self.next_day, last, text)
            if world.plan.planted and world.stormy and file.charges and world.rng.random() < 0.5:
                file = self._made_wrong(file)
            self.files.append(file)
            self.next_day = last + DAY

    def bring(self, file: File) -> str:
        """Import the file; what cannot be read or is lost on the way comes again later."""
        path = self.folder / file.name
        path.write_text(file.text, encoding="utf-8")
        imported = import_statement(
            path=path,
            processor="sandbox",
            lane=LANE,
            by="the bank",
            now=self.world.clock.now(),
            ages=self.world.ages,
        )
        if file in self.files:
            self.files.remove(file)
            self.brought.append(file)
        return f"{imported.statement.state}, again: {imported.again}"

    def bring_torn(self, file: File) -> str:
        """A file cut off in the middle of a row is refused whole (R39)."""
        torn = replace(file, text=file.text[:-8])
        with looking_on():
            before = StatementImport.objects.count()
        try:
            self.bring(torn)
        except Refused:
            with looking_on():
                kept = StatementImport.objects.count() - before
            if kept:
                self.world.broken.append(f"{kept} files were stored that were refused")
            return "refused"
        self.world.broken.append("a torn file was taken")
        return "taken"

    def _made_wrong(self, file: File) -> File:
        rng, rows = self.world.rng, file.text.splitlines()
        row = rng.choice(file.charges)
        how = rng.choice(["amount", "missing", "duplicate", "unmatched"])
        fields = row.split(",")
        place, key, gross = rows.index(row), UUID(fields[2]), Decimal(fields[5])
        if how == "amount":
            fee = Decimal(fields[6])
            fields[5], fields[6] = str(gross + CENT), str(fee + CENT)
            rows[place], difference = ",".join(fields), CENT
        elif how == "missing":
            rows[place], difference = _adjustment(fields, fields[7]), -gross
        else:
            stranger = uuid5(STRANGERS, fields[2])
            more = [f"{fields[0]}-again", *fields[1:]]
            if how == "unmatched":
                more[2], key = str(stranger), stranger
            undone = f"-{fields[7]}"
            rows[place + 1 : place + 1] = [",".join(more), _adjustment(fields, undone)]
            difference = gross
        self.wrong.append(Wrong(how, key, difference))
        self.world.fault(f"a statement line is wrong: {how}")
        return replace(file, text="\n".join(rows) + "\n")


def _adjustment(fields: list[str], net: str) -> str:
    """A line of this net at the same moment, so that the file still adds up."""
    line_id, _, _, _, booked_at, _, _, _, currency, payout = fields
    return ",".join(
        [f"{line_id}-adjusted", "adjustment", "", "", booked_at, net, "0.00", net, currency, payout]
    )
