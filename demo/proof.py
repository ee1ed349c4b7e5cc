"""The proof: every line compares two records of the same facts, and says so when they differ.

The exit code is 0 only if all lines hold. Nothing here trusts a state column where a fact can be
asked: captures come from the processor's journal, events from the topic, sums from the postings.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.db.models import Count, Max, Sum
from rich import box
from rich.table import Table

from checkout import ledger as books
from checkout import wiring
from checkout.models import (
    Attempt,
    AttemptOutcome,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    Creator,
    Door,
    LedgerAccount,
    LedgerPosting,
    OutboxMessage,
    PublishedMessage,
    Subscription,
)
from demo.journal import captures_of
from demo.stage import Memory, Stage
from settlements.models import Discrepancy

NOTHING: Final = Decimal("0.00")
MOST_ATTEMPTS: Final = 3
MOST_OUTAGES: Final = 5
MOST_RECEIVES: Final = 3
SETTLED: Final = frozenset(
    {
        ChargeState.SUCCEEDED,
        ChargeState.EXHAUSTED,
        ChargeState.VOIDED,
        ChargeState.WRITTEN_OFF,
    }
)


@dataclass(frozen=True)
class Line:
    """One line of the proof; `why` explains a line that does not hold, or is empty."""

    name: str
    found: str
    why: str = ""

    @property
    def holds(self) -> bool:
        return not self.why


def prove(stage: Stage, memory: Memory) -> list[Line]:
    """Ask every part what happened and compare; in the order a reader would ask."""
    captures = captures_of(stage.journal())
    lines: list[Callable[[], Line]] = [
        creators,
        lambda: subscriptions(memory),
        lambda: refusal(memory),
        lambda: outages(stage, memory),
        charges,
        attempts,
        lambda: receives(memory),
        dead_letters,
        in_doubt,
        events,
        ledger,
        lambda: journal(captures),
        lambda: charges_against_journal(captures, memory),
        *(lambda number=number: under_charge(memory, number) for number in range(2)),
        lambda: discrepancies(memory),
    ]
    return [line() for line in lines]


def table(lines: Iterable[Line]) -> Table:
    """The lines for the terminal."""
    shown = Table(title="The proof", box=box.SIMPLE_HEAD, title_justify="left")
    shown.add_column("")
    shown.add_column("what")
    shown.add_column("found", overflow="fold")
    for line in lines:
        mark = "[green]✓[/]" if line.holds else "[red]✗[/]"
        why = f"\n[red]{line.why}[/]" if line.why else ""
        shown.add_row(mark, line.name, line.found + why)
    return shown


def creators() -> Line:
    countries = Creator.objects.values("country").distinct().count()
    return Line("creators", f"{Creator.objects.count()} in {countries} countries")


def subscriptions(memory: Memory) -> Line:
    states = counted(Subscription.objects.values_list("state"))
    started, asked = sum(states.values()), memory.checkouts
    why = "" if started == asked else f"{asked} checkouts were answered, {started} subscriptions"
    return Line("subscriptions", listed(states), why)


def refusal(memory: Memory) -> Line:
    why = "" if memory.refused.startswith("409") else "a country without a lane must be refused"
    return Line("refused by a country's rule", memory.refused, why)


def outages(stage: Stage, memory: Memory) -> Line:
    down = stage.down()
    why = f"not up again: {', '.join(down)}" if down else ""
    if len(memory.outages) < MOST_OUTAGES:
        why = f"only {len(memory.outages)} of {MOST_OUTAGES} faults were put in"
    return Line("faults put in on purpose", ", ".join(memory.outages), why)


def charges() -> Line:
    states = counted(Charge.objects.values_list("state"))
    collected = Charge.objects.filter(state=ChargeState.SUCCEEDED)
    amount = collected.aggregate(sum=Sum("amount"))["sum"] or NOTHING
    unsettled = {state: n for state, n in states.items() if state not in SETTLED}
    why = f"still under way: {listed(unsettled)}" if unsettled else ""
    return Line("charges", f"{listed(states)}; collected {usd(amount)}", why)


def attempts() -> Line:
    outcomes = counted(Attempt.objects.values_list("outcome"))
    rounds = Attempt.objects.exclude(outcome=AttemptOutcome.NOT_CHARGED).values("charge", "round")
    most = rounds.annotate(tries=Count("id")).aggregate(most=Max("tries"))["most"] or 0
    why = f"{most} attempts in one round" if most > MOST_ATTEMPTS else ""
    return Line("attempts", f"{listed(outcomes)}; most in a round: {most}", why)


def receives(memory: Memory) -> Line:
    """SQS's own count of each delivery, which the worker logs before anything else.

    No row counts receives, since most change none; but each send took one, and the attempts count
    their sends: so a log that is not whole shows.
    """
    (total, most), sends = memory.receives, memory.sends
    faults = [
        f"a message was received {most} times" if most > MOST_RECEIVES else "",
        f"the worker's log tells of {total} receives, but there were {sends} sends"
        if total < max(sends, 1)
        else "",
    ]
    found = f"{total} for {sends} sends; most per message: {most}"
    return Line("receives", found, "; ".join(filter(None, faults)))


def dead_letters() -> Line:
    cases = Case.objects.filter(kind=CaseKind.DEAD_LETTER)
    closed = counted(cases.values_list("closed_because"))
    queue = wiring.queue().waiting()
    why = f"{queue.dead} in the dead-letter queue without a case" if queue.dead else ""
    return Line(
        "dead letters",
        f"{cases.count()}, each with its case ({listed(closed)});"
        f" left on the queue: {queue.visible + queue.in_flight}",
        why,
    )


def in_doubt() -> Line:
    doubted = Attempt.objects.exclude(doubt="")
    resolved = Counter(
        f"{outcome} ({verdict})" if verdict else outcome
        for outcome, verdict in doubted.values_list("outcome", "verdict")
    )
    still_open = Attempt.objects.filter(outcome=AttemptOutcome.OPEN).count()
    why = f"{still_open} attempts without an outcome" if still_open else ""
    return Line("in doubt, and how resolved", f"{doubted.count()}: {listed(resolved)}", why)


def events() -> Line:
    """The outbox against what the topic itself holds, read back to its end."""
    recorded = dict(
        OutboxMessage.objects.filter(door=Door.KAFKA).values_list("event_id", "payload_sha256")
    )
    published = PublishedMessage.objects.filter(door=Door.KAFKA).count()
    records = list(wiring.topic_reader().read_back(offsets={}))
    read = {record.event_id: record.sha256 for record in records}
    gaps = sequence_gaps({(record.key, record.sequence) for record in records})
    faults = [
        f"{len(recorded) - published} not published" if published < len(recorded) else "",
        f"{len(recorded.keys() - read.keys())} not in the topic"
        if recorded.keys() - read.keys()
        else "",
        f"{len(read.keys() - recorded.keys())} unknown in the topic"
        if read.keys() - recorded.keys()
        else "",
        f"{gaps} gaps" if gaps else "",
        "payloads differ" if any(read.get(id, sha) != sha for id, sha in recorded.items()) else "",
    ]
    return Line(
        "events",
        f"{len(recorded)} recorded, {published} published, {len(read)} read back from Kafka"
        f" ({len(records) - len(read)} repeated); gaps: {gaps}",
        "; ".join(filter(None, faults)),
    )


def ledger() -> Line:
    """Each entry sums to zero, and what is still receivable is what was billed and not captured."""
    total = LedgerPosting.objects.aggregate(sum=Sum("amount"))["sum"] or NOTHING
    sums = LedgerPosting.objects.values("entry").annotate(sum=Sum("amount"))
    unbalanced, entries = sums.exclude(sum=0).count(), sums.count()
    closed = [ChargeState.VOIDED, ChargeState.WRITTEN_OFF]
    billed = Charge.objects.exclude(state__in=closed).aggregate(sum=Sum("expected_amount"))["sum"]
    applied = Attempt.objects.filter(outcome=AttemptOutcome.CAPTURED)
    captured = applied.aggregate(sum=Sum("captured_amount"))["sum"]
    owed = (billed or NOTHING) - (captured or NOTHING)
    receivable = books.balance(account=LedgerAccount.RECEIVABLE)
    faults = [
        f"{unbalanced} entries do not sum to zero" if unbalanced or total else "",
        f"billed less captured is {usd(owed)}" if owed != receivable else "",
    ]
    return Line(
        "ledger sum",
        f"{usd(total)} over {entries} entries; still receivable: {usd(receivable)}",
        "; ".join(filter(None, faults)),
    )


def journal(captures: Mapping[str, Sequence[tuple[str, Decimal]]]) -> Line:
    """Every capture of the processor is one captured attempt of the same amount, and the reverse."""
    theirs = {reference: amount for row in captures.values() for reference, amount in row}
    ours = {
        str(id): amount
        for id, amount in Attempt.objects.values_list("id", "captured_amount")
        if amount is not None
    }
    differing = [key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)]
    why = f"{len(differing)} captures differ, such as {differing[0]}" if differing else ""
    return Line(
        "the processor's journal against attempts",
        f"{len(theirs)} captures of {usd(sum(theirs.values(), NOTHING))}"
        f" = {len(ours)} attempts of {usd(sum(ours.values(), NOTHING))}",
        why,
    )


def charges_against_journal(
    captures: Mapping[str, Sequence[tuple[str, Decimal]]], memory: Memory
) -> Line:
    """Each charge was captured once, in its own amount, but for the two cents put in on purpose."""
    twice = [charge for charge, row in captures.items() if len(row) > 1]
    amounts = {
        str(id): (amount, state == ChargeState.SUCCEEDED)
        for id, amount, state in Charge.objects.values_list("id", "amount", "state")
    }
    captured = {charge: sum(a for _, a in row) for charge, row in captures.items()}
    differing = {
        charge
        for charge, (amount, succeeded) in amounts.items()
        if captured.get(charge) != (amount if succeeded else None)
    }
    unexplained = differing ^ {fault.charge_id for fault in memory.faults}
    faults = [
        f"{len(twice)} charges captured twice" if twice else "",
        f"to explain: {', '.join(sorted(unexplained))}" if unexplained else "",
    ]
    return Line(
        "charges against the journal, to the cent",
        f"{len(captured)} of {len(amounts)} captured, none twice; differing: {len(differing)},"
        " the two put in on purpose",
        "; ".join(filter(None, faults)),
    )


def under_charge(memory: Memory, number: int) -> Line:
    """A cent-fault was named by reconciliation without a hand, within a minute (R37)."""
    if number >= len(memory.faults):
        return Line("under-charge found", "-", "it was not put in")
    fault = memory.faults[number]
    creator = Charge.objects.select_related("creator").get(pk=fault.charge_id).creator
    seconds = fault.seconds
    took = f"named after {seconds:.1f} s" if seconds is not None else "not named"
    why = "" if seconds is not None and seconds < 60 else "it must be named within 60 s"
    return Line(
        "under-charge found",
        f"0.03 USD, {creator.name} ({creator.external_id}, {creator.country}), {fault.what}: {took}",
        why,
    )


def discrepancies(memory: Memory) -> Line:
    """What a full reconciliation left open is what was put in on purpose, and nothing else."""
    open_now = Discrepancy.objects.filter(cleared_at__isnull=True)
    expected = {fault.charge_id for fault in memory.faults}
    stray = [row for row in open_now if str(row.charge_id) not in expected]
    why = "; ".join(f"{row.kind} {row.code}: {row.explanation}" for row in stray[:5])
    if len(stray) > 5:
        why += f"; and {len(stray) - 5} more"
    found = counted(open_now.values_list("kind"))
    cleared = counted(Discrepancy.objects.filter(cleared_at__isnull=False).values_list("code"))
    return Line(
        "open discrepancies after a full pass",
        f"{listed(found)}, all of the two charges; cleared by evidence: {listed(cleared)}",
        why,
    )


def sequence_gaps(places: Iterable[tuple[str, int | None]]) -> int:
    """How many numbers between 1 and a creator's highest are missing, over all creators."""
    numbers: dict[str, set[int]] = {}
    for key, sequence in places:
        numbers.setdefault(key, set()).add(sequence or 0)
    return sum(max(found) - len(found) for found in numbers.values())


def counted(rows: Iterable[tuple[Any, ...]]) -> dict[str, int]:
    """How often each first column occurs, most often first."""
    return dict(Counter(str(row[0]) for row in rows).most_common())


def listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items()) or "none"


def usd(amount: Decimal) -> str:
    return f"{amount:,.2f} USD"
