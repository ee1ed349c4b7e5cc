"""Edits behind the service's back, and statement files as the sandbox processor writes them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from checkout.clock import Moment
from checkout.models import Attempt
from processor.statement import Capture, render
from settlements.statements import Imported, import_statement
from tests.factories import LANE, World


@contextmanager
def triggers_off() -> Iterator[Any]:
    """A superuser's cursor for which no trigger of checkout fires; the marks' own do."""
    with transaction.atomic(), connection.cursor() as cursor:
        # What an open test transaction still owes is settled first, or it would meet the edits.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield cursor
        cursor.execute("SET LOCAL session_replication_role = origin")


def edit(sql: str, *values: Any) -> None:
    """One statement behind the triggers."""
    with triggers_off() as cursor:
        cursor.execute(sql, values)


def captures(attempts: Iterable[Attempt]) -> list[Capture]:
    """What the processor would have in its own books of these captures."""
    return [
        Capture(
            reference=str(attempt.pk),
            processor_reference=attempt.processor_reference,
            booked_at=attempt.booked_at,
            amount=attempt.captured_amount,
        )
        for attempt in attempts
        if attempt.booked_at is not None and attempt.captured_amount is not None
    ]


def statement_text(first: date, last: date | None = None, *, lane: str = LANE) -> str:
    """The processor's file of a lane for these days, true to every capture we know.

    Captures of one instant stand in the order their charges were made in: ids differ from run to run.
    """
    order = ("booked_at", "charge__terms_id", "charge__period_start", "round", "number")
    known = captures(Attempt.objects.filter(lane=lane).order_by(*order))
    return render(account=lane, captures=known, first=first, last=last or first)


def days_over(world: World) -> Moment:
    """When the days of a file are over, by a business clock that was moved for its import alone."""
    return Moment(world.clock.real_now(), world.clock.business_now() + timedelta(days=7))


def take_in(
    text: str, *, world: World, folder: Path, lane: str = LANE, name: str = "file.csv"
) -> Imported:
    """Write the text to a file and import it."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return import_statement(
        path=path,
        processor="sandbox",
        lane=lane,
        by="test",
        now=days_over(world),
        ages=world.ages,
    )
