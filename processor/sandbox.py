"""The sandbox processor itself, without HTTP: what it answers, and what it journals before that.

The process and a simulation share it: the one gives it a journal file and real time, the other a
journal in memory and a clock of its own.

Keys: a reference is the idempotency key. The same key with the same order is answered as the
charge stands now, without a new decision, for control's `idempotent_seconds` (real time); with
another order 422; while the first is being decided 409. A key that has been forgotten charges
AGAIN, as real processors do: that is the fault R24 guards against, and the journal shows it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from processor import behaviour, statement
from processor.behaviour import Decision, Delivery, Fate
from processor.clock import Clock
from processor.control import IllFormed, changed
from processor.journal import Books, Journal, Kind, Line
from processor.orders import Order

_NAMES = UUID("5a4d0b0e-6f35-5c5e-9c0b-3a1f0d9e7c11")
_STATUS_OF = {Fate.APPROVED: "approved", Fate.DECLINED: "declined", Fate.PENDING: "pending"}


@dataclass(frozen=True)
class Reply:
    """An HTTP status and JSON body, and how they are delivered."""

    status: int
    body: Mapping[str, Any]
    delivery: Delivery = Delivery.ANSWER
    headers: Mapping[str, str] = field(default_factory=dict)


class DayNotOver(Exception):
    """A statement exists once its last day is over on the business clock."""


class Sandbox:
    """One processor with all its accounts; safe to call from many threads."""

    def __init__(
        self,
        *,
        journal: Journal,
        clock: Clock,
        announce: Callable[[Line], None] = lambda _line: None,
    ) -> None:
        """`announce` hears of every line control wants a webhook for; it must not block."""
        self._journal = journal
        self._clock = clock
        self._announce = announce
        self._books = Books()
        self._lock = threading.Lock()
        self._deciding: set[str] = set()
        for line in journal:
            self._books.apply(line)

    @property
    def hang_seconds(self) -> float:
        """How long a silence lasts at most, real seconds."""
        return self._books.control.hang_seconds

    def charge(self, order: Order) -> Reply:
        """Decide `order`, or answer its key from the record."""
        turned_away = self._gate(order.account)
        if turned_away is not None:
            return turned_away
        with self._lock:
            known = self._known(order)
            if known is not None:
                return known
            self._deciding.add(order.reference)
        with self._releasing(order.reference):
            self._clock.sleep(behaviour.delay(order.token, self._books.control))
            with self._lock:
                return self._decide(order)

    def query(self, reference: str) -> Reply:
        """How the charge stands; 404 `not_found`, also while it is being decided, or `expired`."""
        turned_away = self._gate()
        if turned_away is not None:
            return turned_away
        with self._lock:
            line = self._books.answers.get(reference)
        if line is None:
            return _problem(404, "not_found", "no charge has this reference")
        if line.status == "expired":
            return _problem(404, "expired", "it was expired and can never be captured")
        return Reply(200, _shown(line))

    def expire(self, reference: str) -> Reply:
        """End a charge that is not decided yet, or was never seen: it can never be captured then.

        One that is decided stays as it is and is answered so; 409 while it is being decided.
        """
        turned_away = self._gate()
        if turned_away is not None:
            return turned_away
        with self._lock:
            if reference in self._deciding:
                return _in_use()
            line = self._books.answers.get(reference)
            if line is None or line.status == "pending":
                line = self._record(_expired(reference, line))
            return Reply(200, _shown(line))

    def instruct(self, instruction: Mapping[str, Any]) -> Reply:
        """Take a control instruction into force; 400 where it is none."""
        with self._lock:
            try:
                changed(self._books.control, instruction, at=self._clock.real_now())
            except IllFormed as error:
                return _problem(400, "ill_formed", str(error))
            self._record(Line(0, "", "", Kind.CONTROL, instruction=instruction))
        return Reply(200, {"applied": dict(instruction)})

    def resolve_due(self) -> int:
        """Decide every pending charge whose time has come; how many there were."""
        with self._lock:
            now = self._clock.real_now()
            due = [line for line in self._books.pending.values() if _is_due(line, now)]
            for line in due:
                self._record(self._resolved(line))
        return len(due)

    def lines(self, *, since: int = 0) -> list[Line]:
        """The journal after line `since`, without instructions."""
        with self._lock:
            lines = list(self._journal)
        return [line for line in lines if line.seq > since and line.kind is not Kind.CONTROL]

    def statement(self, *, account: str, first: date, last: date) -> str:
        """The statement file of processor/statement.py; raises DayNotOver."""
        if last >= self._clock.business_now().date():
            raise DayNotOver(f"{last} is not over on the business clock")
        captures = [_capture(line) for line in self.lines() if _is_capture(line, account)]
        return statement.render(account=account, captures=captures, first=first, last=last)

    def _gate(self, account: str = "") -> Reply | None:
        control = self._books.control
        self._clock.sleep(control.latency)
        if control.away(self._clock.real_now()):
            hangup = control.outage_mode == "drop"
            delivery = Delivery.HANGUP if hangup else Delivery.ANSWER
            return replace(_problem(503, "away", "down for a while"), delivery=delivery)
        if account in control.forbidden:
            return _problem(403, "forbidden", "this account may not charge")
        return None

    def _known(self, order: Order) -> Reply | None:
        """The answer to a key that is not new; None for one to be decided."""
        if order.reference in self._deciding:
            return _in_use()
        answer = self._books.answers.get(order.reference)
        if answer is not None and answer.status == "expired":
            return _problem(409, "expired", "it was expired and can never be captured")
        first = self._books.keys.get(order.reference)
        if answer is None or first is None or self._forgotten(first):
            return None
        if first.fingerprint != order.fingerprint:
            return _problem(422, "key_reused", "this key came with another order")
        return Reply(201, _shown(answer), headers={"Idempotent-Replayed": "true"})

    def _forgotten(self, first: Line) -> bool:
        age = self._clock.real_now() - datetime.fromisoformat(first.at)
        return age >= timedelta(seconds=self._books.control.idempotent_seconds)

    def _decide(self, order: Order) -> Reply:
        decision = behaviour.decide(
            order.token, self._books.history(order.token), self._books.control
        )
        line = self._line(order, decision)
        if decision.recorded:
            line = self._record(line)
        if decision.fate is Fate.REFUSED:
            return _problem(429, "too_many", "later", headers={"Retry-After": "1"})
        return Reply(201, _shown(line), delivery=decision.delivery)

    def _line(self, order: Order, decision: Decision) -> Line:
        line = Line(
            seq=0,
            at="",
            business_at="",
            kind=_kind(decision),
            status=_STATUS_OF.get(decision.fate, ""),
            reference=order.reference,
            account=order.account,
            amount=f"{order.amount:.2f}",
            currency=order.currency,
            token=order.token,
            creator=order.creator,
            subscription=order.subscription,
            charge=order.charge,
            round=order.round,
            number=order.number,
            fingerprint=order.fingerprint,
        )
        if line.kind is not Kind.DECISION:
            return line
        line = replace(line, processor_reference=self._processor_reference(order.reference))
        if decision.fate is Fate.PENDING:
            return self._pending(line, decision)
        return self._ended(line, decision.fate, decision.decline)

    def _processor_reference(self, reference: str) -> str:
        times = self._books.decisions.get(reference, 0)
        return f"sbx_{uuid5(_NAMES, f'{reference}:{times}').hex[:24]}"

    def _pending(self, line: Line, decision: Decision) -> Line:
        now = self._clock.real_now()
        expires_at = now + timedelta(seconds=self._books.control.pending_expires_seconds)
        if decision.resolves_after is None:
            return replace(line, expires_at=expires_at.isoformat())
        resolves_at = now + timedelta(seconds=decision.resolves_after)
        return replace(
            line,
            expires_at=expires_at.isoformat(),
            resolves_at=resolves_at.isoformat(),
            resolves_to=_STATUS_OF[decision.resolves_to],
        )

    def _resolved(self, line: Line) -> Line:
        line = replace(line, kind=Kind.RESOLUTION)
        fate = Fate(line.resolves_to)
        return self._ended(line, fate, behaviour.FUNDS if fate is Fate.DECLINED else None)

    def _ended(self, line: Line, fate: Fate, decline: behaviour.Decline | None) -> Line:
        if decline is not None:
            return replace(
                line,
                status=_STATUS_OF[fate],
                decline_class=decline.decline_class,
                decline_code=decline.code,
            )
        amount = Decimal(line.amount)
        by = self._books.control.shorts.get(line.creator, Decimal(0))
        if by == 0 or by >= amount:
            return replace(line, status="approved", captured_amount=line.amount)
        return replace(
            line, status="approved", captured_amount=f"{amount - by:.2f}", short_by=f"{by:.2f}"
        )

    def _record(self, line: Line) -> Line:
        """Date, number and journal `line`, then let it count; callers hold the lock."""
        dated = replace(
            line,
            seq=len(self._journal) + 1,
            at=self._clock.real_now().isoformat(),
            business_at=self._clock.business_now().isoformat(),
        )
        self._journal.append(dated)
        self._books.apply(dated)
        if self._is_announced(dated):
            self._announce(dated)
        return dated

    def _is_announced(self, line: Line) -> bool:
        match self._books.control.webhooks:
            case "all":
                return line.kind in (Kind.DECISION, Kind.RESOLUTION, Kind.EXPIRY)
            case "resolved":
                return line.kind is Kind.RESOLUTION
            case _:
                return False

    @contextmanager
    def _releasing(self, reference: str) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._deciding.discard(reference)


def event_of(line: Line) -> dict[str, Any]:
    """The webhook for `line`; its id is derived, so that a repeat carries the same one."""
    event_id = uuid5(_NAMES, f"{line.reference}:{line.processor_reference}:{line.status}").hex
    return {
        "id": f"evt_{event_id}",
        "type": f"charge.{line.status}",
        "created_at": line.at,
        "reference": line.reference,
        "data": _shown(line),
    }


def _kind(decision: Decision) -> Kind:
    match decision.fate:
        case Fate.DROPPED:
            return Kind.DROPPED
        case Fate.REFUSED:
            return Kind.REFUSED
        case _:
            return Kind.DECISION


def _expired(reference: str, pending: Line | None) -> Line:
    blank = Line(0, "", "", Kind.EXPIRY, reference=reference)
    return replace(pending or blank, kind=Kind.EXPIRY, status="expired")


def _is_due(line: Line, now: datetime) -> bool:
    return bool(line.resolves_at) and datetime.fromisoformat(line.resolves_at) <= now


def _is_capture(line: Line, account: str) -> bool:
    return line.status == "approved" and line.account == account


def _capture(line: Line) -> statement.Capture:
    return statement.Capture(
        reference=line.reference,
        processor_reference=line.processor_reference,
        booked_at=datetime.fromisoformat(line.business_at),
        amount=Decimal(line.captured_amount),
    )


def _shown(line: Line) -> dict[str, Any]:
    """A charge as the API shows it; `amount` of an approved one is what was captured."""
    shown: dict[str, Any] = {
        "status": line.status,
        "reference": line.reference,
        "processor_reference": line.processor_reference,
        "amount": line.captured_amount if line.status == "approved" else line.amount,
        "currency": line.currency,
    }
    if line.status == "declined":
        shown |= {"decline_class": line.decline_class, "decline_code": line.decline_code}
    if line.status == "pending":
        shown |= {"expires_at": line.expires_at}
    return shown


def _in_use() -> Reply:
    return _problem(409, "key_in_use", "this key is being decided")


def _problem(
    status: int, error: str, detail: str, *, headers: Mapping[str, str] | None = None
) -> Reply:
    return Reply(status, {"error": error, "detail": detail}, headers=headers or {})
