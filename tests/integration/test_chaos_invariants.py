"""The verdict of the chaos runs: green over a clean history, and red for each thing that is planted in it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest

from chaos.diary import CHECKOUTS, CREATORS, Acknowledged, Asked, Promises
from chaos.evidence import CaseRow, Evidence, Waiting, rows
from chaos.invariants import CHECKS, Claim, claims
from chaos.verdict import _one_row
from checkout import wiring
from checkout.gateways import Approved, Declined, Pending
from checkout.messages import Outgoing
from checkout.models import Door
from checkout.outbox import digest
from checkout.relay import relay_batch
from checkout.topics import Record
from demo.unrest import Unrest, unrest
from tests.factories import World
from tests.fakes import START, FakeBroker, FakeClock, FakeGateway, charged_but_silent
from tests.line import Line
from tests.platforms import Platform, ready_platform
from tests.relays import direct
from tests.situations import NEVER, SOFT, TIMED_OUT

has_database = pytest.mark.django_db(transaction=True)

AT_REST: Final = Unrest(0, 0, 0, 0, 0, 0, 0)


# --- A clean history -------------------------------------------------------------------------------


def posted(platform: Platform, asked: Asked) -> Acknowledged:
    answer = platform.post(asked.path, asked.body, key=asked.key)
    return Acknowledged(asked, answer.status_code, answer.content.decode(), at=0.0)


def subscribed(platform: Platform, name: str) -> list[Acknowledged]:
    """A creator and a checkout, as the load asks for them."""
    facts = {
        "external_id": name,
        "name": "Aigerim",
        "email": f"{name}@example.com",
        "country": "KZ",
        "time_zone": "UTC",
    }
    creator = posted(platform, Asked(f"{name}-creator", CREATORS, facts))
    body = {"creator_id": creator.id, "plan": "monthly", "token": f"tok_{name}"}
    return [creator, posted(platform, Asked(f"{name}-order", CHECKOUTS, body))]


def lived(line: Line) -> None:
    """A capture; a decline, then a capture; a card refused for good; a capture that was not answered."""
    gateway = line.world.gateway
    gateway.answers = [
        Approved(Decimal("19.99"), "USD", "r"),
        SOFT,
        NEVER,
        charged_but_silent(gateway, TIMED_OUT),
    ]
    line.run(seconds=2000, step=100)


def journal_of(gateway: FakeGateway) -> list[dict[str, Any]]:
    """The fake's journal in the sandbox's words."""
    charges = {request.reference: request.charge for request in gateway.sent}
    return [
        line_of(reference, charges[reference], said) for reference, said in gateway.journal.items()
    ]


def line_of(reference: UUID, charge: UUID, said: object) -> dict[str, Any]:
    assert isinstance(said, Approved | Declined | Pending)
    return {
        "kind": "decision",
        "status": "approved" if isinstance(said, Approved) else "declined",
        "reference": str(reference),
        "charge": str(charge),
        "captured_amount": str(said.amount) if isinstance(said, Approved) else "0.00",
    }


def records_of(messages: Sequence[Outgoing]) -> list[Record]:
    """What the topic holds after these were produced, all in one partition."""
    return [
        Record(0, offset, str(m.key), m.event_id, m.event_seq, digest(m.payload), None)
        for offset, m in enumerate(messages)
    ]


def published(clock: FakeClock) -> list[Record]:
    broker = FakeBroker()
    with direct() as lock_connection:
        while relay_batch(
            door=Door.KAFKA, send=broker.send, now=clock.real_now(), lock_connection=lock_connection
        ).settled.marked:
            pass
    return records_of(broker.log)


Gather = Callable[[psycopg.Connection[Any]], Evidence]


@pytest.fixture
def gather() -> Gather:
    """Everything that was said of four subscriptions, as often as it is asked for."""
    platform = ready_platform()
    clock = FakeClock()
    clock.hands["real"] = wiring.clock().real_now() - START + timedelta(seconds=5)
    acknowledged = [
        done for name in ("paid", "soft", "never", "silent") for done in subscribed(platform, name)
    ]
    world = World(clock=clock)
    lived(Line(world))
    records, journal = published(clock), journal_of(world.gateway)
    promises = Promises({done.asked.key: done.asked for done in acknowledged}, tuple(acknowledged))

    def again(asked: Sequence[Acknowledged]) -> list[tuple[int, str]]:
        repeated = [posted(platform, done.asked) for done in asked]
        return [(done.status, done.answer) for done in repeated]

    def witnesses(database: psycopg.Connection[Any]) -> Evidence:
        return Evidence(
            account=platform.account.pk,
            promises=promises,
            journal=journal,
            records=records,
            unrest=unrest(partial(_one_row, database), now=clock.now()),
            waiting=Waiting(),
            again=again,
            rewritten=frozenset(),
            poisoned=frozenset(),
            **rows(database, account=platform.account.pk),
        )

    return witnesses


def as_answered(asked: Sequence[Acknowledged]) -> list[tuple[int, str]]:
    """The service as it should be; the real one would wait for what is planted, and not committed."""
    return [(done.status, done.answer) for done in asked]


NOTHING: Final = Evidence(
    account=UUID(int=0),
    promises=Promises({}, ()),
    creators=[],
    subscriptions=[],
    charges=[],
    attempts=[],
    entries=[],
    messages=[],
    cases=[],
    answers=[],
    journal=[],
    records=[],
    unrest=AT_REST,
    waiting=Waiting(),
    again=as_answered,
)


def red(evidence: Evidence) -> set[str]:
    """What does not hold, by what it says."""
    return {claim.says for claim in claims(evidence) if not claim.holds}


@has_database
def test_a_clean_history_is_green_and_every_check_looked_at_something(gather: Gather) -> None:
    with direct() as database:
        found = claims(gather(database))

    assert [claim for claim in found if not claim.holds] == []
    assert len(found) == len(CHECKS)
    assert {claim.invariant for claim in found} >= {"I1", "I2", "I3", "I4", "I5", "I6", "F2"}


def test_a_check_that_looked_at_nothing_has_not_passed() -> None:
    assert red(NOTHING) == {claim.says for claim in claims(NOTHING)} - {
        "dead letters explained (0 cases)"
    }
    assert not Claim("I1", "nothing", 0).holds


# --- Planted in the database, behind its triggers --------------------------------------------------

ACKNOWLEDGED: Final = "each acknowledged write is there as it was answered"
UNASKED: Final = "nothing exists that nobody asked for"
PERIODS: Final = "each period is one charge"
SAME: Final = "the same key has the same answer"
ONE_CAPTURE: Final = "at most one capture a charge"
CAPTURES: Final = "captures in the journal = attempts"
DECLINES: Final = "declines in the journal = attempts"
BOOKED: Final = "captured attempts = ledger entries"
PAID: Final = "succeeded = one capture applied"
BALANCE: Final = "debits = credits"
THREE: Final = "at most three attempts a round"
TOLD: Final = "each final outcome is one event"
IN_TOPIC: Final = "each event is in the topic"
HAS_ROW: Final = "each record has its row"
ORDER: Final = "events of a creator in order"
REST: Final = "nothing is under way"
REPAIRED: Final = "nobody is owed a refund or was repaired"


def copied(table: str, changes: str, where: str = "true") -> str:
    """Insert a copy of one row with some columns changed."""
    return (
        f"INSERT INTO {table} SELECT (jsonb_populate_record(t, jsonb_build_object({changes}))).*"
        f" FROM {table} t WHERE {where} LIMIT 1"
    )


PAID_ATTEMPT: Final = "outcome = 'captured' AND number = 1"
IN_THE_DATABASE: Final[dict[str, tuple[str, set[str]]]] = {
    "a creator is gone": (
        "DELETE FROM checkout_creator WHERE external_id = 'paid'",
        {ACKNOWLEDGED},
    ),
    "a subscription is gone": (
        "DELETE FROM checkout_subscription WHERE id = (SELECT id FROM checkout_subscription LIMIT 1)",
        {ACKNOWLEDGED},
    ),
    "a charge is gone": (
        "DELETE FROM checkout_charge WHERE state = 'exhausted'",
        {ACKNOWLEDGED, PERIODS},
    ),
    "a charge is three cents short": (
        "UPDATE checkout_charge SET amount = amount - 0.03 WHERE state = 'exhausted'",
        {ACKNOWLEDGED, PAID, BALANCE},
    ),
    "a paid charge is three cents short": (
        "UPDATE checkout_charge SET amount = amount - 0.03, expected_amount = expected_amount - 0.03"
        " WHERE state = 'succeeded'",
        {ACKNOWLEDGED, PAID},
    ),
    "another amount is expected": (
        "UPDATE checkout_charge SET expected_amount = 20.00",
        {PAID},
    ),
    "an answer was forgotten": (
        "DELETE FROM checkout_idempotencyrecord WHERE key = 'paid-order'",
        {ACKNOWLEDGED},
    ),
    "an answer was rewritten": (
        "UPDATE checkout_idempotencyrecord SET body = '{}' WHERE key = 'paid-order'",
        {ACKNOWLEDGED},
    ),
    "a subscription nobody asked for": (
        copied("checkout_subscription", "'id', gen_random_uuid()"),
        {UNASKED, PERIODS},
    ),
    "a period charged twice": (
        copied(
            "checkout_charge",
            "'id', gen_random_uuid(), 'period_start', period_start + 1",
            "state = 'exhausted'",
        ),
        {PERIODS, BALANCE},
    ),
    "a period that ends too late": (
        "UPDATE checkout_charge SET period_end = period_end + 1 WHERE state = 'exhausted'",
        {PERIODS},
    ),
    "a capture is not known": (
        "UPDATE checkout_attempt SET outcome = 'not_charged', captured_amount = NULL,"
        f" captured_currency = '' WHERE {PAID_ATTEMPT}",
        {CAPTURES, BOOKED, PAID, TOLD},
    ),
    "a capture is a cent short": (
        "UPDATE checkout_attempt SET captured_amount = captured_amount - 0.01"
        f" WHERE {PAID_ATTEMPT}",
        {CAPTURES, BOOKED, PAID},
    ),
    "a decline that never was": (
        "UPDATE checkout_attempt SET outcome = 'declined', captured_amount = NULL,"
        f" captured_currency = '' WHERE {PAID_ATTEMPT}",
        {CAPTURES, DECLINES, BOOKED, PAID, TOLD},
    ),
    "a time-out taken for not charged": (
        "UPDATE checkout_attempt SET outcome = 'not_charged', decline_class = '', decline_code = ''"
        " WHERE outcome = 'declined'",
        {DECLINES, TOLD},
    ),
    "a posting is gone": (
        "DELETE FROM checkout_ledgerposting WHERE id = (SELECT min(id) FROM checkout_ledgerposting)",
        {BALANCE},
    ),
    "a ledger entry is gone": (
        "WITH gone AS (SELECT id FROM checkout_ledgerentry WHERE kind = 'captured' LIMIT 1),"
        " postings AS (DELETE FROM checkout_ledgerposting WHERE entry_id IN (SELECT id FROM gone))"
        " DELETE FROM checkout_ledgerentry WHERE id IN (SELECT id FROM gone)",
        {BOOKED, BALANCE},
    ),
    "a charge was never billed in the books": (
        "WITH gone AS (SELECT id FROM checkout_ledgerentry WHERE kind = 'billed' LIMIT 1),"
        " postings AS (DELETE FROM checkout_ledgerposting WHERE entry_id IN (SELECT id FROM gone))"
        " DELETE FROM checkout_ledgerentry WHERE id IN (SELECT id FROM gone)",
        {BALANCE},
    ),
    "a capture is booked a cent short": (
        "UPDATE checkout_ledgerposting p SET amount = p.amount - sign(p.amount) * 0.01"
        " FROM checkout_ledgerentry e WHERE e.id = p.entry_id AND e.kind = 'captured'",
        {BOOKED, BALANCE},
    ),
    "a paid row is rewritten": (
        "UPDATE checkout_charge SET state = 'voided' WHERE state = 'succeeded'",
        {PAID, TOLD},
    ),
    "an unpaid row is rewritten": (
        "UPDATE checkout_charge SET state = 'succeeded', awaits = '', next_round_at = NULL"
        " WHERE state = 'exhausted'",
        {PAID, BALANCE},
    ),
    "four attempts in a round": (
        ";".join(
            copied(
                "checkout_attempt",
                f"'id', gen_random_uuid(), 'number', {number}",
                "outcome = 'declined'",
            )
            for number in (7, 8, 9)
        ),
        {THREE, DECLINES, TOLD},
    ),
    "an outcome was never told": (
        "DELETE FROM checkout_outboxmessage WHERE id IN (SELECT id FROM checkout_outboxmessage"
        " WHERE type = 'charge.succeeded' LIMIT 1)",
        {TOLD, HAS_ROW, ORDER},
    ),
    "an outcome was told twice": (
        copied(
            "checkout_outboxmessage",
            "'id', 900000, 'event_id', gen_random_uuid(), 'event_seq', event_seq + 100",
            "type = 'charge.succeeded'",
        ),
        {TOLD, IN_TOPIC, ORDER, REST},
    ),
    "another payload than was sent": (
        "UPDATE checkout_outboxmessage SET payload = replace(payload, '19.99', '19.96')"
        " WHERE type = 'charge.succeeded'",
        {IN_TOPIC},
    ),
    "a sequence with a gap": (
        "UPDATE checkout_creator SET event_seq = event_seq + 1 WHERE external_id = 'paid'",
        {ORDER},
    ),
    "a message that was not sent": (
        "WITH gone AS (DELETE FROM checkout_publishedmessage WHERE message_id ="
        " (SELECT max(id) FROM checkout_outboxmessage WHERE door = 'kafka') RETURNING message_id)"
        " INSERT INTO checkout_pendingmessage"
        " (message_id, door, key, available_at, tries, last_error)"
        " SELECT id, door, key, available_at, 0, '' FROM gone"
        " JOIN checkout_outboxmessage ON id = message_id",
        {REST},
    ),
    "an attempt without an outcome": (
        "UPDATE checkout_attempt SET outcome = 'open', ended_at = NULL, captured_amount = NULL,"
        f" captured_currency = '' WHERE {PAID_ATTEMPT}",
        {REST, CAPTURES, BOOKED, PAID, TOLD},
    ),
    "a charge that still waits": (
        "UPDATE checkout_charge SET state = 'in_doubt', awaits = '', next_round_at = NULL"
        " WHERE state = 'exhausted'",
        {REST},
    ),
    "a repaired charge": (
        "INSERT INTO checkout_case (kind, subject, reason, detail, opened_at, proposal, proposed_by,"
        " approved_by, closed_because) VALUES ('repaired_charge', 'x', 'why', '{}', now(), '', '', '', '')",
        {REPAIRED},
    ),
    "a message nobody could send": (
        "INSERT INTO checkout_case (kind, subject, reason, detail, opened_at, proposal, proposed_by,"
        " approved_by, closed_because) VALUES ('parked_message', 'x', 'why', '{}', now(), '', '', '', '')",
        {"dead letters explained (1 cases)"},
    ),
    "a dead letter without a reason": (
        "INSERT INTO checkout_case (kind, subject, reason, detail, opened_at, proposal, proposed_by,"
        " approved_by, closed_because) VALUES ('dead_letter', 'x', '', '{}', now(), '', '', '', '')",
        {"dead letters explained (1 cases)"},
    ),
}


@has_database
def test_each_thing_planted_in_the_database_is_named(gather: Gather) -> None:
    """I1 to I6: one transaction each, with every trigger off, rolled back again."""
    found = {}
    for name, (statements, _) in IN_THE_DATABASE.items():
        with direct() as database:
            database.autocommit = False
            database.execute("SET LOCAL session_replication_role = replica")
            for statement in statements.split(";"):
                changed = database.execute(statement.encode())
                assert changed.rowcount > 0, name
            found[name] = red(replace(gather(database), again=as_answered))
            database.rollback()

    assert found == {name: expected for name, (_, expected) in IN_THE_DATABASE.items()}


# --- Planted in what the other witnesses say -------------------------------------------------------


def journal_with(evidence: Evidence, change: Callable[[list[dict[str, Any]]], object]) -> Evidence:
    lines = [dict(line) for line in evidence.journal]
    change(lines)
    return replace(evidence, journal=lines)


def captured(lines: list[dict[str, Any]]) -> dict[str, Any]:
    return next(line for line in lines if line["status"] == "approved")


def captured_twice(lines: list[dict[str, Any]]) -> None:
    lines.append(captured(lines) | {"reference": str(UUID(int=7))})


def decided_twice(lines: list[dict[str, Any]]) -> None:
    declined = next(line for line in lines if line["status"] == "declined")
    lines.append(dict(declined))


def captured_short(lines: list[dict[str, Any]]) -> None:
    captured(lines)["captured_amount"] = "19.96"


def captured_for_another(lines: list[dict[str, Any]]) -> None:
    captured(lines)["charge"] = str(UUID(int=9))


def never_declined(lines: list[dict[str, Any]]) -> None:
    lines[:] = [line for line in lines if line["status"] != "declined"]


def never_captured(lines: list[dict[str, Any]]) -> None:
    lines.remove(captured(lines))


def reordered(records: list[Record]) -> list[Record]:
    """Two events of one creator change places."""
    one = next(n for n, record in enumerate(records) if record.sequence == 2)
    other = next(n for n, r in enumerate(records) if r.sequence == 3 and r.key == records[one].key)
    moved = list(records)
    moved[one] = replace(records[other], offset=records[one].offset)
    moved[other] = replace(records[one], offset=records[other].offset)
    return moved


def later(record: Record, **changes: Any) -> Record:
    return replace(record, offset=10_000, **changes)


def repaired(evidence: Evidence, *, on_purpose: bool) -> Evidence:
    """A charge that had been rewritten was healed (F27); nothing else about it would be forgiven."""
    charge = next(row.id for row in evidence.charges if row.state == "succeeded")
    case = CaseRow("repaired_charge", "x", "it had been rewritten", charge)
    rewritten = frozenset({str(charge)} if on_purpose else ())
    return replace(evidence, cases=[case], rewritten=rewritten)


def poisoned(evidence: Evidence, *, kept: bool) -> Evidence:
    """A message that nobody can read was sent on purpose (F22)."""
    case = CaseRow("unreadable_message", "m-1", "not a Celery message", None)
    return replace(evidence, cases=[case] if kept else [], poisoned=frozenset({"m-1"}))


Plant = Callable[[Evidence], Evidence]
ELSEWHERE: Final[dict[str, tuple[Plant, set[str]]]] = {
    "a second capture": (
        lambda e: journal_with(e, captured_twice),
        {ONE_CAPTURE, CAPTURES},
    ),
    "a reference decided twice": (lambda e: journal_with(e, decided_twice), {ONE_CAPTURE}),
    "a capture of another amount": (lambda e: journal_with(e, captured_short), {CAPTURES}),
    "a capture for another charge": (
        lambda e: journal_with(e, captured_for_another),
        {CAPTURES},
    ),
    "a capture that never was": (lambda e: journal_with(e, never_captured), {CAPTURES}),
    "a decline that never was": (lambda e: journal_with(e, never_declined), {DECLINES}),
    "events that changed places": (
        lambda e: replace(e, records=reordered(list(e.records))),
        {ORDER},
    ),
    "an event that never came": (
        lambda e: replace(e, records=[r for r in e.records if r != e.records[-1]]),
        {IN_TOPIC, ORDER},
    ),
    "a record nobody committed": (
        lambda e: replace(e, records=[*e.records, later(e.records[0], event_id=UUID(int=5))]),
        {HAS_ROW, ORDER},
    ),
    "a record that is not ours": (
        lambda e: replace(
            e, records=[*e.records, later(e.records[0], event_id=None, key="", sequence=None)]
        ),
        {HAS_ROW},
    ),
    "a second record with other bytes": (
        lambda e: replace(e, records=[*e.records, later(e.records[0], sha256="other")]),
        {IN_TOPIC},
    ),
    "a record sent twice, as after F5 and F15": (
        lambda e: replace(e, records=[*e.records, later(e.records[0])]),
        set(),
    ),
    "a repair nobody is known to have caused": (
        lambda e: repaired(e, on_purpose=False),
        {REPAIRED},
    ),
    "a repair of what was rewritten on purpose": (lambda e: repaired(e, on_purpose=True), set()),
    "a broken message that was kept": (lambda e: poisoned(e, kept=True), set()),
    "a broken message that vanished": (
        lambda e: poisoned(e, kept=False),
        {"dead letters explained (0 cases)"},
    ),
    "another answer to the same key": (
        lambda e: replace(e, again=lambda asked: [(201, "{}") for _ in asked]),
        {SAME},
    ),
    "no answer to the same key": (
        lambda e: replace(e, again=lambda asked: [(0, "no answer") for _ in asked]),
        {SAME},
    ),
    "a message left on the queue": (lambda e: replace(e, waiting=Waiting(visible=1)), {REST}),
    "a dead letter left": (
        lambda e: replace(e, waiting=Waiting(dead=1)),
        {"dead letters explained (0 cases)"},
    ),
}


@has_database
def test_each_thing_planted_elsewhere_is_named(gather: Gather) -> None:
    with direct() as database:
        clean = replace(gather(database), again=as_answered)

    found = {name: red(plant(clean)) for name, (plant, _) in ELSEWHERE.items()}

    assert found == {name: expected for name, (_, expected) in ELSEWHERE.items()}


def test_every_check_is_shown_to_fail() -> None:
    """A check that cannot fail is worse than a gap."""
    planted = [expected for _, expected in (*IN_THE_DATABASE.values(), *ELSEWHERE.values())]

    assert {claim.says for claim in claims(NOTHING)} <= set.union(*planted)
