"""What reconciliation must say at the end: every planted fault by name, and nothing else.

It looks twice, incrementally and in full, and both must find the same (R55). In some schedules rows
are edited by a cent afterwards, each of which it must name, and clear when the cent is back.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from django.db import connection, transaction

from checkout.models import TERMINAL, Attempt, AttemptOutcome
from settlements import reconciliation
from settlements.models import Discrepancy
from settlements.reconciliation import Finding, standing
from tests.simulation.actors import Actors
from tests.simulation.world import World, captures

SHORT: Final = Decimal("-0.03")
CENT: Final = Decimal("0.01")

# What is edited, and the kinds of discrepancy that may name it.
EDITS: Final = (
    (
        "UPDATE checkout_attempt SET captured_amount = captured_amount - {cents} WHERE id = %(attempt)s",
        {"captured", "ledger", "statement"},
    ),
    (
        "UPDATE checkout_charge SET amount = amount + {cents} WHERE id = %(charge)s",
        {"billing", "captured", "ledger"},
    ),
    (
        "UPDATE checkout_ledgerposting SET amount = amount + {cents} WHERE id ="
        " (SELECT min(id) FROM checkout_ledgerposting WHERE charge_id = %(charge)s)",
        {"ledger"},
    ),
)


def violations(world: World, actors: Actors) -> list[str]:
    """Every sentence says what reconciliation should have said, or should not."""
    found = [f"proof: {sentence}" for sentence in _proved(world, actors)]
    if not found and world.plan.audit:
        found = [f"audit: {sentence}" for sentence in _audited(world, actors)]
    return found + world.broken


def _proved(world: World, actors: Actors) -> Iterator[str]:
    _bring_all_files(world)
    # Nobody collects it any more; it is owed, and no period is missing.
    actors.bill()
    actors.reconcile()
    seen = standing()
    if world.plan.full:
        reconciliation.reconcile(clock=world.clock, ages=world.ages, topic=world.topic)
        full = standing()
        if _names(seen) != _names(full):
            yield f"incremental found {_names(seen)}, full found {_names(full)}"
    for finding in seen:
        if not _is_explained(world, finding):
            yield f"{finding.kind} {finding.code}: {finding.explanation}"
    yield from _planted(world, seen)
    if world.plan.statements:
        yield from _unheard(world)
    if world.plan.calm:
        # A file that its processor has not written yet is late, however calm the day.
        for row in Discrepancy.objects.exclude(code="late_file"):
            yield f"a false alarm, while nothing failed: {row.kind} {row.code}: {row.explanation}"


def _bring_all_files(world: World) -> None:
    """The days until now are over, and their files come, in order."""
    if not world.plan.statements:
        return
    world.clock.move_business(days=1)
    world.bank.close_days()
    for file in sorted(world.bank.files, key=lambda file: file.first):
        world.bank.bring(file)


def _is_explained(world: World, finding: Finding) -> bool:
    difference = finding.actual - finding.expected
    match finding.code:
        case "under_charge":
            return world.plan.shorts and difference == SHORT
        case "unapplied":
            return world.plan.last_defence
        case "rewritten":
            return finding.charge_id in world.rewritten
        case "amount" | "missing" | "unmatched":
            return any(
                w.code == finding.code and w.difference == difference for w in world.bank.wrong
            )
        case "late_file":
            return not world.plan.statements
        case "duplicate":
            return world.plan.last_defence or any(w.code == "duplicate" for w in world.bank.wrong)
        case _:
            return False


def _unheard(world: World) -> Iterator[str]:
    """What the processor took without our hearing of it, a statement has told by now."""
    taken = {line.reference for line in captures(world.processor.lines())}
    taken -= {str(wrong.key) for wrong in world.bank.wrong if wrong.code == "missing"}
    known = AttemptOutcome.CAPTURED, AttemptOutcome.UNAPPLIED
    for attempt in Attempt.objects.filter(pk__in=taken).exclude(outcome__in=known):
        yield f"{attempt} was captured, every file is there, and it is {attempt.outcome}"


def _planted(world: World, found: list[Finding]) -> Iterator[str]:
    """Each cent that the processor kept, each wrong line and each rewritten row is named."""
    under = {f.charge_id for f in found if f.code == "under_charge"}
    for attempt in Attempt.objects.filter(outcome=AttemptOutcome.CAPTURED):
        is_short = attempt.captured_amount != attempt.amount
        if is_short != (attempt.charge_id in under):
            yield f"{attempt} captured {attempt.captured_amount} of {attempt.amount}, not named"
    named = {
        (f.kind, f.code, f.fingerprint.rpartition(":")[2], f.actual - f.expected) for f in found
    }
    for wrong in world.bank.wrong:
        subjects = {subject for kind, code, subject, cents in named if code == wrong.code}
        if wrong.code != "unmatched" and str(wrong.key) not in subjects:
            yield f"the wrong line of {wrong.key} ({wrong.code}) is not named"
    unmatched = sum(1 for wrong in world.bank.wrong if wrong.code == "unmatched")
    if sum(1 for f in found if f.code == "unmatched") != unmatched:
        yield f"{unmatched} lines of strangers, not all named"
    rewritten = set(Discrepancy.objects.values_list("charge_id", flat=True))
    for charge_id, state in world.rewritten.items():
        if state in TERMINAL and charge_id not in rewritten:
            yield f"{world.name(charge_id)} was {state} and was rewritten: never named (F27)"


def _names(findings: list[Finding]) -> list[str]:
    return sorted(f.fingerprint for f in findings)


def _audited(world: World, actors: Actors) -> Iterator[str]:
    """A cent is taken, or added, in a row; it is named by the next pass, and cleared when it is back."""
    paid = list(
        Attempt.objects.filter(outcome=AttemptOutcome.CAPTURED).order_by("started_at", "id")
    )
    if not paid:
        return
    attempt = world.rng.choice(paid)
    names = {"attempt": attempt.pk, "charge": attempt.charge_id}
    before = {f.fingerprint for f in standing()}
    edit, kinds = world.rng.choice(EDITS)
    _edit(edit.format(cents=CENT), names)
    actors.reconcile()
    new = [f for f in standing() if f.fingerprint not in before]
    about = [f for f in new if f.kind in kinds and f.charge_id == attempt.charge_id]
    if not any(abs(f.actual - f.expected) == CENT for f in about):
        yield f"a cent by {edit[:40]}… is not named: {_names(new)}"
    _edit(edit.format(cents=-CENT), names)
    actors.reconcile()
    # That the row was edited stays on record; that it does not agree is over.
    left = [f for f in standing() if f.fingerprint not in before and f.code != "rewritten"]
    if left:
        yield f"the cent is back, and it still stands: {_names(left)}"


def _edit(sql: str, values: dict[str, Any]) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(sql, values)
