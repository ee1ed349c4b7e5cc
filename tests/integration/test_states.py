"""docs/states.md, "State × event", cell by cell.

Each row of a table here is a cell there, in the same words; `described` (tests/situations.py) says what
became of the charge. "—" is nothing. Rules R20 to R27, R29, R52; faults F7 to F9, F13, F25, F27, F33.
"""

from pathlib import Path

import pytest

from tests.factories import World, attempts
from tests.situations import EVENTS, SITUATIONS, described, letters_of, unsound

pytestmark = pytest.mark.django_db

STATES = Path(__file__).parents[2] / "docs" / "states.md"

# Of the columns that belong to work still open; when one is built its cells come into CELLS.
ABSENT_COLUMNS = {
    "page opened": "the hosted checkout page is an issue of its own; nothing makes a page's attempt yet",
    "rebuild finds a capture": "rebuild_from_processor comes with the restore, an issue of its own",
}

# situation, event, what becomes of it
CELLS = [
    # due
    ("due again, round 2", "late capture", "succeeded, A"),
    ("due again, round 2", "late decline", "—"),
    ("due again, round 2", "late not found", "—"),
    ("due again, round 2", "late doubt", "—"),
    ("due", "cancel", "voided"),
    ("due", "new instrument", "—"),
    ("due", "requeue", "refused"),
    ("due", "write off", "refused"),
    ("due", "dunning date", "—"),
    ("due", "sweep", "disp"),
    ("due", "drain of its dead letter", "disp, dead_letter case closed"),
    ("due again, round 2", "drain of an older letter", "dead_letter case closed"),
    # attempting
    ("attempting", "tx 2: captured", "succeeded, A, sent, ack"),
    ("attempting", "tx 2: declined, retryable", "failed_then_retry, S, sent, leave"),
    (
        "attempting, its third",
        "tx 2: declined, retryable",
        "exhausted, awaits date, SSS, sent, ack",
    ),
    ("attempting", "tx 2: never", "exhausted, awaits instrument, N, sent, ack"),
    (
        "attempting, a newer instrument there",
        "tx 2: never",
        "due, round + 1, disp, N, sent, ack",
    ),
    # The single send of an attempt was refused: believed. The second one: not (R20).
    ("due", "tx 2: not sent", "failed_then_retry, disp, 0, sent, ack"),
    ("due", "tx 2: in doubt", "in_doubt, ?, sent, ack"),
    ("attempting", "tx 2: not sent", "in_doubt, sent, ack"),
    ("attempting", "tx 2: in doubt", "in_doubt, sent, ack"),
    ("attempting", "query: captured", "succeeded, A"),
    ("attempting", "query: declined, retryable", "failed_then_retry, disp, S"),
    ("attempting, its third", "query: declined, retryable", "exhausted, awaits date, SSS"),
    ("attempting", "query: never", "exhausted, awaits instrument, N"),
    ("attempting, a newer instrument there", "query: never", "due, round + 1, disp, N"),
    ("attempting", "query: not found for good", "failed_then_retry, disp, 0"),
    ("attempting", "query: expired", "failed_then_retry, disp, 0"),
    ("attempting", "query: in doubt", "in_doubt"),
    (
        "attempting, void_requested",
        "query: captured",
        "succeeded, A, refund_after_cancel case",
    ),
    ("attempting, void_requested", "query: declined, retryable", "voided, S"),
    ("attempting, void_requested", "query: never", "voided, N"),
    ("attempting, void_requested", "query: not found for good", "voided, 0"),
    ("attempting, void_requested", "query: in doubt", "in_doubt"),
    ("attempting", "cancel", "void_requested"),
    ("attempting", "new instrument", "—"),
    ("attempting", "requeue", "refused"),
    ("attempting", "write off", "refused"),
    ("attempting", "dunning date", "—"),
    ("attempting", "sweep", "—"),
    ("attempting", "drain of its dead letter", "in_doubt, dead_letter case closed"),
    ("attempting", "drain of an older letter", "in_doubt, dead_letter case closed"),
    # failed_then_retry
    ("failed_then_retry, not charged", "late capture", "succeeded, A"),
    ("failed_then_retry", "late capture", "succeeded, A"),
    ("failed_then_retry, not charged", "late decline", "—"),
    ("failed_then_retry, not charged", "late not found", "—"),
    ("failed_then_retry, not charged", "late doubt", "—"),
    ("failed_then_retry", "cancel", "voided"),
    ("failed_then_retry", "new instrument", "—"),
    ("failed_then_retry", "requeue", "refused"),
    ("failed_then_retry", "write off", "refused"),
    ("failed_then_retry", "dunning date", "—"),
    ("failed_then_retry", "sweep", "disp"),
    ("failed_then_retry by hand, its attempt open", "sweep", "—"),
    ("failed_then_retry by hand, its attempt open", "cancel", "void_requested"),
    ("failed_then_retry by hand, its attempt open", "query: in doubt", "—"),
    ("failed_then_retry by hand, its attempt open", "query: captured", "succeeded, A"),
    ("failed_then_retry by hand, its attempt open", "query: declined, retryable", "S"),
    ("failed_then_retry", "drain of its dead letter", "disp, dead_letter case closed"),
    ("failed_then_retry, not charged", "drain of an older letter", "dead_letter case closed"),
    (
        "failed_then_retry by hand, its attempt open",
        "drain of its dead letter",
        "dead_letter case closed",
    ),
    # in_doubt
    ("in_doubt", "query: captured", "succeeded, A"),
    ("in_doubt", "query: declined, retryable", "failed_then_retry, disp, S"),
    ("in_doubt, its third", "query: declined, retryable", "exhausted, awaits date, SSS"),
    ("in_doubt", "query: never", "exhausted, awaits instrument, N"),
    ("in_doubt, a newer instrument there", "query: never", "due, round + 1, disp, N"),
    ("in_doubt", "query: not found for good", "failed_then_retry, disp, 0"),
    ("in_doubt", "query: expired", "failed_then_retry, disp, 0"),
    ("in_doubt", "query: in doubt", "—"),
    ("in_doubt, void_requested", "query: captured", "succeeded, A, refund_after_cancel case"),
    ("in_doubt, void_requested", "query: declined, retryable", "voided, S"),
    ("in_doubt, void_requested", "query: never", "voided, N"),
    ("in_doubt, void_requested", "query: not found for good", "voided, 0"),
    ("in_doubt", "cancel", "void_requested"),
    ("in_doubt", "new instrument", "—"),
    ("in_doubt", "requeue", "refused"),
    ("in_doubt", "write off", "refused"),
    ("in_doubt", "dunning date", "—"),
    ("in_doubt", "sweep", "—"),
    ("in_doubt", "drain of its dead letter", "dead_letter case closed"),
    # pending
    ("pending", "query: captured", "succeeded, A"),
    ("pending", "query: declined, retryable", "failed_then_retry, disp, S"),
    ("pending, its third", "query: declined, retryable", "exhausted, awaits date, SSS"),
    ("pending", "query: never", "exhausted, awaits instrument, N"),
    ("pending, a newer instrument there", "query: never", "due, round + 1, disp, N"),
    ("pending", "expires_at", "failed_then_retry, disp, 0"),
    ("pending, void_requested", "expires_at", "voided, 0"),
    ("pending", "query: in doubt", "—"),
    ("pending, void_requested", "query: captured", "succeeded, A, refund_after_cancel case"),
    ("pending, void_requested", "query: declined, retryable", "voided, S"),
    ("pending", "cancel", "void_requested"),
    ("pending", "new instrument", "—"),
    ("pending", "requeue", "refused"),
    ("pending", "write off", "refused"),
    ("pending", "dunning date", "—"),
    ("pending", "sweep", "—"),
    ("pending", "drain of its dead letter", "dead_letter case closed"),
    # exhausted
    ("exhausted, an attempt not found before", "late capture", "succeeded, AS"),
    ("exhausted, waits for a date", "late capture", "succeeded, A"),
    ("exhausted, waits for a date", "late decline", "—"),
    ("exhausted, waits for a date", "late not found", "—"),
    ("exhausted, waits for a date", "late doubt", "—"),
    ("exhausted, waits for a date", "cancel", "voided"),
    ("exhausted, awaits an instrument", "cancel", "voided"),
    ("exhausted, a person decides", "cancel", "voided"),
    ("exhausted, awaits an instrument", "new instrument", "due, round + 1, disp"),
    ("exhausted, waits for a date", "new instrument", "—"),
    ("exhausted, a person decides", "new instrument", "—"),
    ("exhausted, a person decides", "requeue", "due, round + 1, disp"),
    ("exhausted, waits for a date", "requeue", "due, round + 1, disp"),
    ("exhausted, awaits an instrument", "requeue", "refused"),
    ("exhausted, waits for a date", "dunning date", "due, round + 1, step + 1, disp"),
    ("exhausted, awaits an instrument", "dunning date", "—"),
    ("exhausted, a person decides", "dunning date", "—"),
    ("exhausted, a person decides", "write off", "written_off"),
    ("exhausted, waits for a date", "sweep", "—"),
    ("exhausted, waits for a date", "drain of its dead letter", "dead_letter case closed"),
    # succeeded
    ("succeeded, an attempt not found before", "late capture", "UA, unapplied_receipt case"),
    ("succeeded, an attempt open", "query: captured", "AU, unapplied_receipt case"),
    ("succeeded, an attempt open", "query: declined, retryable", "AS"),
    ("succeeded, an attempt open", "query: never", "AN"),
    ("succeeded, an attempt open", "query: not found for good", "A0"),
    ("succeeded, an attempt open", "query: in doubt", "—"),
    ("succeeded", "late doubt", "—"),
    ("succeeded", "late decline", "—"),
    ("succeeded", "late capture", "—"),
    ("succeeded", "cancel", "—"),
    ("succeeded", "new instrument", "—"),
    ("succeeded", "requeue", "refused"),
    ("succeeded", "write off", "refused"),
    ("succeeded", "dunning date", "—"),
    ("succeeded", "sweep", "—"),
    ("succeeded", "drain of its dead letter", "dead_letter case closed"),
    # voided, written_off
    ("voided, an attempt not found before", "late capture", "U, unapplied_receipt case"),
    ("written_off, an attempt not found before", "late capture", "US, unapplied_receipt case"),
    ("voided by hand, an attempt open", "query: declined, retryable", "S"),
    ("voided by hand, an attempt open", "query: never", "N"),
    ("voided by hand, an attempt open", "query: not found for good", "0"),
    ("voided by hand, an attempt open", "query: in doubt", "—"),
    # Whatever its state says, the books say that it cannot take it (R26).
    (
        "voided and rewritten, an attempt not found before",
        "late capture",
        "U, unapplied_receipt case",
    ),
    ("voided, an attempt not found before", "late doubt", "—"),
    ("written_off, an attempt not found before", "late doubt", "—"),
    ("voided", "cancel", "—"),
    ("voided", "new instrument", "—"),
    ("voided", "requeue", "refused"),
    ("voided", "write off", "refused"),
    ("voided", "dunning date", "—"),
    ("voided", "sweep", "—"),
    ("voided", "drain of its dead letter", "dead_letter case closed"),
    ("written_off", "cancel", "—"),
    ("written_off", "new instrument", "—"),
    ("written_off", "requeue", "refused"),
    ("written_off", "write off", "refused"),
    ("written_off", "dunning date", "—"),
    ("written_off", "sweep", "—"),
    ("written_off", "drain of its dead letter", "dead_letter case closed"),
]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(("where", "what", "becomes"), CELLS, ids=lambda text: text)
def test_state_meets_event(world: World, where: str, what: str, becomes: str) -> None:
    charge = SITUATIONS[where](world)

    seen = described(world, charge, lambda: EVENTS[what](world, charge))

    assert seen == becomes
    assert unsound(charge) == []


def test_every_column_of_the_table_is_tested_and_two_are_absent() -> None:
    """The columns of the hosted page and of the rebuild come with their own issues, and so do their cells."""
    tested = {
        "captured": "query: captured",
        "declined, retryable": "query: declined, retryable",
        "declined for good": "query: never",
        "not charged (`0`)": "query: not found for good",
        "in doubt": "query: in doubt",
        "cancel": "cancel",
        "new instrument": "new instrument",
        "requeue": "requeue",
        "dunning date": "dunning date",
        "sweep": "sweep",
        "drain of its dead letter": "drain of its dead letter",
    }
    header = next(
        line for line in STATES.read_text("utf-8").splitlines() if line.startswith("| state |")
    )
    columns = {column.strip() for column in header.strip("|").split("|")} - {"state"}

    assert columns == set(tested)
    assert not columns & set(ABSENT_COLUMNS)
    assert set(tested.values()) <= {what for _, what, _ in CELLS}


@pytest.mark.parametrize("where", ["attempting", "in_doubt", "pending"])
def test_a_new_instrument_is_remembered_and_the_attempt_keeps_its_own(
    world: World, where: str
) -> None:
    charge = SITUATIONS[where](world)
    EVENTS["new instrument"](world, charge)

    EVENTS["query: declined, retryable"](world, charge)
    world.clock.forward(seconds=301)
    world.receive(charge)

    assert [a.instrument.token for a in attempts(charge)] == ["tok_approve", "tok_other"]
    assert letters_of(charge) == "SA"
