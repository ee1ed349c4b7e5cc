"""Many charges with all that belongs to them, loaded set-based: what a database holds after four months.

Triggers and indexes rest while the rows come, and what the triggers keep is counted afterwards by the
statements of their own migrations, so that every kept figure agrees with its rows. For measuring alone:
the rows did not come through the use cases.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from checkout import requeues
from checkout.clock import Ages, Clock
from settlements import books, reconciliation, resolving
from settlements.models import STANDING, Discrepancy, Kind, Way
from settlements.payouts import book_movements
from settlements.roles import ANALYST, APPROVER, OPERATOR
from settlements.suspense import open_items

CHUNK: Final = 100_000
PERIODS: Final = 4
# Below it "today" would hold charges of hours that are still to come.
HOURS_OF_A_DAY: Final = timedelta(hours=8)
STEPS: Final = Path(__file__).with_name("admin_rows.sql")


def load(*, charges: int) -> None:
    """Fill a migrated, empty database with so many charges and what follows from them."""
    for role in (ANALYST, APPROVER, OPERATOR):
        user, _ = User.objects.get_or_create(username=f"bench-{role}", is_staff=True)
        # Who approves may propose as well, just not approve that: so every page opens.
        roles = [APPROVER, ANALYST] if role == APPROVER else [role]
        user.groups.set(Group.objects.filter(name__in=roles))
    given = {
        "charges": str(charges),
        "creators": str(-(-charges // PERIODS)),
        "today": str((Clock().business_now() - HOURS_OF_A_DAY).date()),
    }
    steps = read_steps(given)
    each = [step for step in steps if step[0].startswith("chunk: ")]
    first, last = steps[: steps.index(each[0])], steps[steps.index(each[-1]) + 1 :]
    chunks = range(0, charges, CHUNK)
    with progress(len(first) + len(each) * len(chunks) + len(last) + 2) as note, resting(note):
        run(first, note)
        for low in chunks:
            bounds = {"low": str(low), "high": str(min(low + CHUNK, charges))}
            run([(name, with_values(sql, bounds)) for name, sql in each], note)
        run(last, note)
    with connection.cursor() as cursor:
        # Whoever inserts next takes the numbers behind those that were given here.
        for table, column in owned_sequences():
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence(%s, %s), coalesce(max({column}), 0) + 1)"
                f" FROM {table}",
                [table, column],
            )
        cursor.execute("VACUUM ANALYZE")
    leave_work()


def leave_work() -> None:
    """What waits in the morning: a pass finds what was planted, and the analyst did her part."""
    clock, ages = Clock(), Ages()
    book_movements(clock=clock, ages=ages)
    reconciliation.reconcile_incremental(clock=clock, ages=ages)
    now, by = clock.now(), f"bench-{ANALYST}"
    cents = Discrepancy.objects.filter(STANDING, kind=Kind.CAPTURED).order_by("difference")
    with transaction.atomic():
        resolving.propose(
            discrepancy_ids=[cents[0].pk],
            way=Way.CORRECTED,
            by=by,
            reason="the network kept three cents; the processor confirmed it",
            now=now,
        )
        resolving.assign(
            discrepancy_ids=[cents[1].pk], to=by, by=by, reason="asked the processor", now=now
        )
        # Large enough at any size that another person has to look at it.
        requeues.propose(
            choice=requeues.Choice(lane="mena", since=now.real - timedelta(days=20)),
            by=by,
            reason="the issuers answer again",
            limit=requeues.Limit(count=1, usd=Decimal("1.00")),
            now=now,
            ages=ages,
        )
    if (day := books.next_day()) is None:
        return
    with transaction.atomic():
        reasons = dict.fromkeys(books.KINDS, "asked for; the answer comes tomorrow")
        open_kinds = {item.kind for item in open_items(day=day, now=now)}
        books.propose_close(
            day=day,
            reasons={kind: why for kind, why in reasons.items() if kind in open_kinds},
            by=by,
            now=now,
        )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def read_steps(given: dict[str, str]) -> list[tuple[str, str]]:
    """Names and statements of admin_rows.sql, in its order."""
    parts = re.split(r"^-- step: (.+)$", STEPS.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return [
        (name, with_values(sql, given)) for name, sql in zip(parts[::2], parts[1::2], strict=True)
    ]


def with_values(sql: str, values: dict[str, str]) -> str:
    """Put values in the places of `:name`; a cast, `::name`, is none."""
    for name, value in values.items():
        sql = re.sub(rf"(?<!:):{name}\b", value, sql)
    return sql


def run(steps: Sequence[tuple[str, str]], note: Callable[[str], None]) -> None:
    for name, sql in steps:
        note(name.removeprefix("chunk: "))
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql.replace("%", "%%"), [])


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """How far it is, in steps of about equal length."""
    columns = (TextColumn("loading {task.description:32}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)

        def note(what: str) -> None:
            bar.update(task, description=what, advance=1)

        yield note


@contextmanager
def resting(note: Callable[[str], None]) -> Iterator[None]:
    """Without triggers and plain indexes; afterwards each is again as it was."""
    triggers, indexes = states_of_triggers(), definitions_of_indexes()
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO off")
        cursor.execute("SET maintenance_work_mem TO '256MB'")
        cursor.execute("SET work_mem TO '128MB'")
        for table in {table for table, _, _ in triggers}:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
    yield
    note("indexes")
    with connection.cursor() as cursor:
        for _, definition in indexes:
            cursor.execute(definition)
        note("triggers")
        for table in {table for table, _, _ in triggers}:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL")
        for table, trigger, state in triggers:
            if state == "A":
                cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")
        for name in ("synchronous_commit", "maintenance_work_mem", "work_mem"):
            cursor.execute(f"RESET {name}")


OURS: Final = r"^(checkout|settlements)_|^reconcile_dirty$|^django_admin_log$"


def states_of_triggers() -> list[tuple[str, str, str]]:
    """Table, trigger and whether it fires always (A) or for ordinary sessions (O)."""
    return rows(
        "SELECT c.relname, quote_ident(t.tgname), t.tgenabled::text FROM pg_trigger t"
        " JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relname ~ %s",
        OURS,
    )


def definitions_of_indexes() -> list[tuple[str, str]]:
    """Indexes that hold no constraint, with the statement that makes each again."""
    return rows(
        "SELECT quote_ident(i.relname), pg_get_indexdef(x.indexrelid) FROM pg_index x"
        " JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid"
        " WHERE c.relname ~ %s AND c.relnamespace = 'public'::regnamespace AND NOT x.indisunique",
        OURS,
    )


def owned_sequences() -> list[tuple[str, str]]:
    return rows(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND is_identity = 'YES' AND table_name ~ %s",
        OURS,
    )


def rows(sql: str, *values: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())
