"""What every witness says after a run: PostgreSQL by plain SQL, the processor's journal, the topic, the
clients' diary. Read once and judged by `invariants.py`.

Nothing of the service's own models or queries is used: a mistake there must not hide itself here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg

from chaos.diary import Acknowledged, Promises
from checkout.topics import Record
from demo.unrest import Unrest


class SubscriptionRow(NamedTuple):
    id: UUID
    creator_id: UUID
    next_period_start: Any


class CreatorRow(NamedTuple):
    id: UUID
    external_id: str
    event_seq: int


class ChargeRow(NamedTuple):
    """`receivable` is what the books say is owed, USD."""

    id: UUID
    subscription_id: UUID
    state: str
    awaits: str
    round: int
    amount: Decimal
    expected_amount: Decimal
    receivable: Decimal
    period_start: Any
    period_end: Any


class AttemptRow(NamedTuple):
    id: UUID
    charge_id: UUID
    round: int
    number: int
    outcome: str
    captured_amount: Decimal | None
    queries: int


class EntryRow(NamedTuple):
    """`total` is the sum of its postings, `cleared` of those on a clearing account, USD."""

    id: UUID
    kind: str
    charge_id: UUID
    attempt_id: UUID | None
    total: Decimal
    cleared: Decimal


class MessageRow(NamedTuple):
    """A row of the outbox for Kafka; `sha256` is computed here from its payload."""

    event_id: UUID
    key: UUID
    event_seq: int
    type: str
    subject: UUID
    sha256: str


class CaseRow(NamedTuple):
    kind: str
    subject: str
    reason: str
    charge_id: UUID | None


class AnswerRow(NamedTuple):
    """An idempotency record of the clients' account."""

    key: str
    status: int | None
    body: str


_ROWS: Final[Mapping[str, tuple[Any, str]]] = {
    "creators": (
        CreatorRow,
        """SELECT id, external_id, event_seq FROM checkout_creator
        WHERE account_id = %(account)s""",
    ),
    "subscriptions": (
        SubscriptionRow,
        """SELECT s.id, s.creator_id, s.next_period_start FROM checkout_subscription s
        JOIN checkout_creator c ON c.id = s.creator_id WHERE c.account_id = %(account)s""",
    ),
    "charges": (
        ChargeRow,
        """SELECT c.id, c.subscription_id, c.state, c.awaits, c.round, c.amount,
          c.expected_amount, coalesce(p.owed, 0) AS receivable, c.period_start, c.period_end
        FROM checkout_charge c
        LEFT JOIN (SELECT charge_id, sum(amount) AS owed FROM checkout_ledgerposting
                   WHERE account = 'receivable' GROUP BY charge_id) p ON p.charge_id = c.id
        ORDER BY c.subscription_id, c.period_start""",
    ),
    "attempts": (
        AttemptRow,
        """SELECT id, charge_id, round, number, outcome, captured_amount, queries
        FROM checkout_attempt""",
    ),
    "entries": (
        EntryRow,
        """SELECT e.id, e.kind, e.charge_id, e.attempt_id, coalesce(sum(p.amount), 0) AS total,
          coalesce(sum(p.amount) FILTER (WHERE p.account = 'clearing'), 0) AS cleared
        FROM checkout_ledgerentry e LEFT JOIN checkout_ledgerposting p ON p.entry_id = e.id
        GROUP BY e.id""",
    ),
    "messages": (
        MessageRow,
        """SELECT event_id, key, event_seq, type, subject,
          encode(sha256(convert_to(payload, 'UTF8')), 'hex') AS sha256
        FROM checkout_outboxmessage WHERE door = 'kafka' ORDER BY key, event_seq""",
    ),
    "cases": (CaseRow, "SELECT kind, subject, reason, charge_id FROM checkout_case"),
    "answers": (
        AnswerRow,
        """SELECT key, status, body FROM checkout_idempotencyrecord
        WHERE account_id = %(account)s""",
    ),
}


@dataclass(frozen=True)
class Waiting:
    """What SQS still holds, roughly, by its own count."""

    visible: int = 0
    in_flight: int = 0
    dead: int = 0


@dataclass(frozen=True)
class Evidence:
    """All that was said. `again` asks for a POST once more, with its key: (status, body).

    `rewritten` are charges whose rows were edited behind the triggers, on purpose (F27);
    `poisoned` are the messages that nobody can read, sent on purpose, by their id in the queue (F22).
    """

    account: UUID
    promises: Promises
    creators: Sequence[CreatorRow]
    subscriptions: Sequence[SubscriptionRow]
    charges: Sequence[ChargeRow]
    attempts: Sequence[AttemptRow]
    entries: Sequence[EntryRow]
    messages: Sequence[MessageRow]
    cases: Sequence[CaseRow]
    answers: Sequence[AnswerRow]
    journal: Sequence[Mapping[str, Any]]
    records: Sequence[Record]
    unrest: Unrest
    waiting: Waiting
    again: Callable[[Sequence[Acknowledged]], Sequence[tuple[int, str]]]
    rewritten: frozenset[str] = field(default_factory=frozenset)
    poisoned: frozenset[str] = field(default_factory=frozenset)


def rows(database: psycopg.Connection[Any], *, account: UUID) -> dict[str, list[Any]]:
    """Every table that the invariants need; the names are Evidence's. In one transaction, please."""
    found: dict[str, list[Any]] = {}
    for name, (kind, query) in _ROWS.items():
        answer = database.execute(query.encode(), {"account": account})
        found[name] = [kind(*row) for row in answer.fetchall()]
    return found
