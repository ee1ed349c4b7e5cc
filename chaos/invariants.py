"""I1 to I6 over the evidence, to the cent. Each check says how many things it looked at: a check that
looked at nothing has not passed.

The ids are derived here once more, from docs/architecture.md and not by the service's code: a charge, an
attempt or an event under any other id would be a second one.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby, pairwise
from typing import Final
from uuid import UUID, uuid5

from chaos.diary import CHECKOUTS, CREATORS, Acknowledged
from chaos.evidence import AttemptRow, ChargeRow, Evidence
from demo.journal import captures_of

ZERO: Final = Decimal("0.00")
CLOSED: Final = frozenset({"succeeded", "voided", "written_off"})
CAPTURES: Final = frozenset({"captured", "unapplied"})
# What an attempt's outcome is told as.
TOLD_AS: Final = {
    "captured": "charge.succeeded",
    "unapplied": "receipt.unapplied",
    "declined": "charge.declined",
    "not_charged": "charge.not_charged",
}
ENDED_AS: Final = {"voided": "charge.voided", "written_off": "charge.written_off"}
MOST_IN_A_ROUND: Final = 3
MOST_ASKED_AGAIN: Final = 1500
# By these words the verdict knows the claim whose violations are lost writes.
ACKNOWLEDGED: Final = "each acknowledged write is there as it was answered"


@dataclass(frozen=True)
class Claim:
    """One line of the verdict: what must hold, of how many things, and each that breaks it."""

    invariant: str
    says: str
    looked_at: int
    violations: Sequence[str] = field(default_factory=tuple)

    @property
    def holds(self) -> bool:
        return self.looked_at > 0 and not self.violations


def claims(evidence: Evidence) -> list[Claim]:
    """Every claim, in the order of the invariants."""
    return [check(evidence) for check in CHECKS]


# --- I1: accepted, exactly once --------------------------------------------------------------------


def acknowledged_is_there(evidence: Evidence) -> Claim:
    """I1: every acknowledged write exists, under the id and with the amount that were answered."""
    creators = {str(row.id) for row in evidence.creators}
    subscriptions = {str(row.id) for row in evidence.subscriptions}
    charges = {str(row.id): row for row in evidence.charges}
    answers = {row.key: row for row in evidence.answers}

    def wrong(done: Acknowledged) -> str:
        if done.asked.path == CREATORS and done.id not in creators:
            return "the creator is gone"
        if done.asked.path == CHECKOUTS and done.id not in subscriptions:
            return "the subscription is gone"
        if done.charge is not None:
            charge = charges.get(done.charge["id"])
            if charge is None:
                return "the charge is gone"
            if charge.amount != Decimal(done.charge["amount"]):
                return f"{charge.amount} is stored, {done.charge['amount']} was answered"
        stored = answers.get(done.asked.key)
        if stored is None or (stored.status, stored.body) != (done.status, done.answer):
            return "its answer is not the one that is stored"
        return ""

    acknowledged = evidence.promises.acknowledged
    bad = [f"{done.asked.key}: {why}" for done in acknowledged if (why := wrong(done))]
    return Claim("I1", ACKNOWLEDGED, len(acknowledged), bad)


def nobody_asked_for_more(evidence: Evidence) -> Claim:
    """I1: what exists was asked for, and lies under the id that its key derives."""
    asked = evidence.promises.asked.values()
    wanted = {uuid5(evidence.account, a.key) for a in asked if a.path == CHECKOUTS}
    known = {uuid5(evidence.account, a.body["external_id"]) for a in asked if a.path == CREATORS}
    bad = [f"subscription {r.id}" for r in evidence.subscriptions if r.id not in wanted]
    bad += [f"creator {r.external_id}" for r in evidence.creators if r.id not in known]
    looked_at = len(evidence.subscriptions) + len(evidence.creators)
    return Claim("I1", "nothing exists that nobody asked for", looked_at, bad)


def one_charge_a_period(evidence: Evidence) -> Claim:
    """I1: each period of each subscription is one charge, without gap or overlap."""
    ends = {row.id: row.next_period_start for row in evidence.subscriptions}
    bad = []
    charged = set()
    for subscription, group in groupby(evidence.charges, key=lambda row: row.subscription_id):
        periods = list(group)
        charged.add(subscription)
        for before, after in pairwise(periods):
            if before.period_end != after.period_start:
                bad.append(f"{subscription}: {before.period_end}, then {after.period_start}")
        if periods[-1].period_end != ends.get(subscription, periods[-1].period_end):
            bad.append(f"{subscription}: ends {periods[-1].period_end}, not {ends[subscription]}")
        bad += [
            f"charge {row.id} has another id than its period derives"
            for row in periods
            if row.id != uuid5(subscription, row.period_start.isoformat())
        ]
    bad += [f"{id}: no charge at all" for id in ends.keys() - charged]
    return Claim("I1", "each period is one charge", len(evidence.charges), bad)


def same_answer_again(evidence: Evidence) -> Claim:
    """F2, R49: asked again with its key, an acknowledged POST is answered byte for byte the same.

    Of a long run every so many are asked; that each stored answer is the acknowledged one was compared
    in the database.
    """
    stride = 1 + len(evidence.promises.acknowledged) // MOST_ASKED_AGAIN
    acknowledged = evidence.promises.acknowledged[::stride]
    bad = [
        f"{done.asked.key}: {status} {body[:120]}"
        for done, (status, body) in zip(acknowledged, evidence.again(acknowledged), strict=True)
        if (status, body) != (done.status, done.answer)
    ]
    return Claim("F2", "the same key has the same answer", len(acknowledged), bad)


# --- I2: one capture -------------------------------------------------------------------------------


def one_capture_a_charge(evidence: Evidence) -> Claim:
    """I2: the journal holds at most one capture of a charge, and one decision of a reference."""
    captures = captures_of(evidence.journal)
    bad = [f"charge {charge}: {len(c)} captures" for charge, c in captures.items() if len(c) > 1]
    decided = Counter(each["reference"] for each in evidence.journal if each["kind"] == "decision")
    bad += [f"reference {one} was decided {n} times" for one, n in decided.items() if n > 1]
    return Claim("I2", "at most one capture a charge", sum(map(len, captures.values())), bad)


# --- I3: captures, attempts, books -----------------------------------------------------------------


def captures_are_attempts(evidence: Evidence) -> Claim:
    """I3: each capture of the journal is one captured attempt of that amount, and the reverse."""
    theirs = {
        reference: (charge, amount)
        for charge, row in captures_of(evidence.journal).items()
        for reference, amount in row
    }
    ours = {
        str(row.id): (str(row.charge_id), row.captured_amount)
        for row in evidence.attempts
        if row.outcome in CAPTURES
    }
    bad = [
        f"attempt {one}: the journal says {theirs.get(one)}, the attempt {ours.get(one)}"
        for one in sorted(theirs.keys() | ours.keys())
        if theirs.get(one) != ours.get(one)
    ]
    return Claim("I3", "captures in the journal = attempts", len(theirs.keys() | ours.keys()), bad)


def declines_are_told_true(evidence: Evidence) -> Claim:
    """I3: an attempt is declined if and only if the journal declined it; a time-out is no decline."""
    declined = {line["reference"] for line in evidence.journal if line["status"] == "declined"}
    bad = [
        f"attempt {row.id} is {row.outcome}; declined in the journal: {str(row.id) in declined}"
        for row in evidence.attempts
        if (row.outcome == "declined") != (str(row.id) in declined) and row.outcome not in CAPTURES
    ]
    return Claim("I3", "declines in the journal = attempts", len(evidence.attempts), bad)


def captures_are_booked(evidence: Evidence) -> Claim:
    """I3: each captured attempt is one ledger entry that clears its amount; nothing else clears."""
    booked: dict[UUID | None, list[Decimal]] = defaultdict(list)
    for entry in evidence.entries:
        if entry.attempt_id is not None or entry.cleared:
            booked[entry.attempt_id].append(entry.cleared)
    captured = {r.id: r.captured_amount for r in evidence.attempts if r.outcome in CAPTURES}
    bad = [
        f"attempt {one}: captured {captured.get(one) if one else None}, booked {booked.get(one)}"
        for one in {*booked, *captured}
        if booked.get(one) != ([captured[one]] if one in captured else None)
    ]
    return Claim("I3", "captured attempts = ledger entries", len(captured), bad)


def paid_once_and_whole(evidence: Evidence) -> Claim:
    """I3: succeeded if and only if one capture is applied, of the charge's own and expected amount."""
    applied: dict[UUID, list[AttemptRow]] = defaultdict(list)
    for attempt in evidence.attempts:
        if attempt.outcome == "captured":
            applied[attempt.charge_id].append(attempt)

    def wrong(charge: ChargeRow) -> str:
        taken = [row.captured_amount for row in applied[charge.id]]
        if charge.amount != charge.expected_amount:
            return f"{charge.amount} is owed, {charge.expected_amount} is expected"
        if taken != ([charge.amount] if charge.state == "succeeded" else []):
            return f"{charge.state}, {charge.amount} USD, with captures of {taken}"
        return ""

    bad = [f"charge {row.id}: {why}" for row in evidence.charges if (why := wrong(row))]
    return Claim("I3", "succeeded = one capture applied", len(evidence.charges), bad)


def books_balance(evidence: Evidence) -> Claim:
    """I3: debits = credits in each entry, and what is receivable follows from the charge's state."""
    bad = [f"entry {row.id} sums to {row.total}" for row in evidence.entries if row.total]
    for charge in evidence.charges:
        owed = ZERO if charge.state in CLOSED else charge.amount
        if charge.receivable != owed:
            bad.append(f"charge {charge.id} is {charge.state}, receivable {charge.receivable}")
    billed = Counter(row.charge_id for row in evidence.entries if row.kind == "billed")
    bad += [
        f"charge {row.id} was billed {billed[row.id]} times in the books"
        for row in evidence.charges
        if billed[row.id] != 1
    ]
    return Claim("I3", "debits = credits", len(evidence.entries), bad)


def at_most_three_attempts(evidence: Evidence) -> Claim:
    """A round has at most three counted attempts, each under the id that its number derives."""
    counted = Counter(
        (row.charge_id, row.round) for row in evidence.attempts if row.outcome != "not_charged"
    )
    bad = [f"charge {c}, round {r}: {n}" for (c, r), n in counted.items() if n > MOST_IN_A_ROUND]
    bad += [
        f"attempt {row.id} has another id than its number derives"
        for row in evidence.attempts
        if row.id != uuid5(row.charge_id, f"{row.round}:{row.number}")
    ]
    return Claim("I3", "at most three attempts a round", len(evidence.attempts), bad)


# --- I4, I5: events --------------------------------------------------------------------------------


def event_of(subject: UUID, type: str, *, round: int, number: int = 0) -> UUID:
    """The id of the one event that may tell this fact."""
    return uuid5(subject, f"{type}:{round}:{number}:")


def outcomes_are_told_once(evidence: Evidence) -> Claim:
    """I4: each final outcome is exactly one event; none is told that did not happen."""
    expected = dict(_outcomes(evidence))
    finals = {*TOLD_AS.values(), *ENDED_AS.values()}
    told = {row.event_id: row for row in evidence.messages if row.type in finals}
    # Rightly told at their time: the attempt's capture was found after all.
    before = {
        event_of(row.charge_id, type, round=row.round, number=row.number)
        for row in evidence.attempts
        if row.outcome in CAPTURES and row.queries
        for type in ("charge.not_charged", "charge.declined")
    }
    bad = [f"never told: {what}" for id, what in expected.items() if id not in told]
    bad += [
        f"told, and not so: {row.type} of {row.subject}"
        for id, row in told.items()
        if id not in expected.keys() | before and str(row.subject) not in evidence.rewritten
    ]
    return Claim("I4", "each final outcome is one event", len(expected), bad)


def _outcomes(evidence: Evidence) -> Iterator[tuple[UUID, str]]:
    for row in evidence.attempts:
        if type := TOLD_AS.get(row.outcome):
            id = event_of(row.charge_id, type, round=row.round, number=row.number)
            yield id, f"{type} of charge {row.charge_id}, attempt {row.round}.{row.number}"
    for charge in evidence.charges:
        if type := ENDED_AS.get(charge.state):
            yield event_of(charge.id, type, round=charge.round), f"{type} of charge {charge.id}"


def events_are_in_the_topic(evidence: Evidence) -> Claim:
    """I4: each committed event is in the topic at least once, with the very bytes of its row."""
    hashes: dict[UUID | None, set[str]] = defaultdict(set)
    for record in evidence.records:
        hashes[record.event_id].add(record.sha256)
    bad = [
        f"{row.type} of {row.subject} " + ("differs" if hashes[row.event_id] else "is missing")
        for row in evidence.messages
        if hashes[row.event_id] != {row.sha256}
    ]
    return Claim("I4", "each event is in the topic", len(evidence.messages), bad)


def records_were_committed(evidence: Evidence) -> Claim:
    """I4: no record without a committed row."""
    committed = {row.event_id for row in evidence.messages}
    bad = [
        f"record {one.event_id} at {one.partition}:{one.offset}"
        for one in evidence.records
        if one.event_id not in committed
    ]
    return Claim("I4", "each record has its row", len(evidence.records), bad)


def events_come_in_order(evidence: Evidence) -> Claim:
    """I5: by their first appearance, a creator's events come as 1, 2, 3 … to the last one committed."""
    last: dict[str, int] = {}
    for row in evidence.messages:
        last[str(row.key)] = max(row.event_seq, last.get(str(row.key), 0))
    came: dict[str, list[int | None]] = defaultdict(list)
    seen = set()
    for record in sorted(evidence.records, key=lambda one: (one.partition, one.offset)):
        if record.event_id not in seen:
            seen.add(record.event_id)
            came[record.key].append(record.sequence)
    bad = [
        f"creator {key}: {_shortly(came[key])} of {most}"
        for key, most in last.items()
        if came[key] != list(range(1, most + 1))
    ]
    rows = {row.id: row.event_seq for row in evidence.creators}
    bad += [f"creator {id}: row says {n}" for id, n in rows.items() if last.get(str(id), 0) != n]
    return Claim("I5", "events of a creator in order", len(last), bad)


def _shortly(numbers: Sequence[object]) -> str:
    text = " ".join(map(str, numbers))
    return text if len(text) < 100 else f"{text[:100]}…"


# --- I6: at rest -----------------------------------------------------------------------------------


def all_is_at_rest(evidence: Evidence) -> Claim:
    """I6: within the bound nothing is in flight, the outbox and the queue are empty."""
    waiting = evidence.waiting
    bad = [f"still {evidence.unrest}"] if evidence.unrest.total else []
    if left := waiting.visible + waiting.in_flight:
        bad.append(f"{left} messages on the queue")
    return Claim("I6", "nothing is under way", len(evidence.charges) + len(evidence.messages), bad)


def dead_letters_are_explained(evidence: Evidence) -> Claim:
    """I6: no dead letter is left, each became a case with its reason, nothing is parked or unreadable.

    What was sent unreadable on purpose must be there as a case (F22).
    """
    kinds = {"dead_letter", "unreadable_message", "parked_message", "lane_refused", "bill_run"}
    found = [case for case in evidence.cases if case.kind in kinds]
    bad = [f"{case.kind} {case.subject} has no reason" for case in found if not case.reason]
    bad += [
        f"{case.kind} {case.subject}: {case.reason}"
        for case in found
        if case.kind in ("parked_message", "unreadable_message")
        and case.subject not in evidence.poisoned
    ]
    kept = {case.subject for case in found if case.kind == "unreadable_message"}
    bad += [f"{id}: broken on purpose, and not kept" for id in evidence.poisoned - kept]
    if evidence.waiting.dead:
        bad.append(f"{evidence.waiting.dead} dead letters without a case")
    # The queue itself was looked at, so that a run without a dead letter is no empty check.
    return Claim("I6", f"dead letters explained ({len(found)} cases)", len(found) + 1, bad)


def repairs_are_of_rewritten_rows(evidence: Evidence) -> Claim:
    """F27: a charge was repaired only where somebody had rewritten its row on purpose; none is owed back."""
    kinds = ("repaired_charge", "unapplied_receipt", "refund_after_cancel")
    bad = [
        f"{case.kind} {case.subject}: {case.reason}"
        for case in evidence.cases
        if case.kind in kinds and str(case.charge_id) not in evidence.rewritten
    ]
    return Claim("F27", "nobody is owed a refund or was repaired", len(evidence.charges), bad)


CHECKS: Final[Sequence[Callable[[Evidence], Claim]]] = (
    acknowledged_is_there,
    nobody_asked_for_more,
    one_charge_a_period,
    same_answer_again,
    one_capture_a_charge,
    captures_are_attempts,
    declines_are_told_true,
    captures_are_booked,
    paid_once_and_whole,
    books_balance,
    at_most_three_attempts,
    outcomes_are_told_once,
    events_are_in_the_topic,
    records_were_committed,
    events_come_in_order,
    all_is_at_rest,
    dead_letters_are_explained,
    repairs_are_of_rewritten_rows,
)
