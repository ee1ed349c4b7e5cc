"""Our banks' statements: taken in whole or not at all, then accepted or set aside as processors' are.

A camt.053 file may hold statements of several accounts. Each is compared with its account's former one:
opening + entries = closing, and opening = the former closing (R40).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

from django.db import connection, transaction
from django.db.models import Count, Q, QuerySet, Sum

from checkout.clock import Moment
from settlements.expectations import note_bank_days
from settlements.formats.camt import Entry, Statement, read_statements
from settlements.formats.lines import KEPT, BadRow, Refused, why_not_these_days
from settlements.formats.source import Bounds, Source, Torn, opened
from settlements.models import NOTHING, BankStatement, ImportState
from settlements.spool import Progress, Spool

DEFAULT_BOUNDS: Final = Bounds()


@dataclass(frozen=True)
class BankImported:
    """What became of a bank's file; `again` when it had been imported before."""

    statements: Sequence[BankStatement]
    again: bool
    # Statements set aside earlier that this file made acceptable.
    released: Sequence[BankStatement] = ()


@dataclass(frozen=True)
class BankPreview:
    """What would become of a bank's file, were it imported now; nothing is stored."""

    sha256: str
    # Not stored; `reason` says why one would be set aside.
    statements: Sequence[BankStatement]
    known: Sequence[BankStatement]


def import_bank_statement(
    *,
    path: Path,
    by: str,
    now: Moment,
    bounds: Bounds = DEFAULT_BOUNDS,
    progress: Progress = lambda _: None,
    keep_trail: Callable[[BankStatement, str], object] | None = None,
) -> BankImported:
    """Store a bank's camt.053 file: a statement and its booked entries for each account in it.

    The same file again adds nothing; two equal entries are two (R39, R41). A statement that does not
    add up or follow is stored and set aside (R40). Raises Refused, with nothing stored, when an entry
    or a balance cannot be read, Torn when the file changes meanwhile, and OSError.
    """
    with opened(path, bounds) as source, Spool(progress) as spool:
        known = _known(source)
        if known:
            return _again(known, now=now, bounds=bounds)
        read = _read(source, now=now, spool=spool)
        with transaction.atomic():
            _lock({each.account for each in read})
            known = _known(source)
            if known:
                return BankImported(known, again=True)
            statements = [
                _stored(each, source, name=source.name, by=by, now=now, bounds=bounds)
                for each in sorted(read, key=_order)
            ]
            if keep_trail:
                for statement in statements:
                    keep_trail(statement, "")
            _copy(statements, spool)
            source.must_be_unchanged()
            accounts = {each.account for each in read}
            released = _release(accounts, now=now, bounds=bounds)
            note_bank_days(accounts)
            return BankImported(statements, again=False, released=released)


def _again(known: list[BankStatement], *, now: Moment, bounds: Bounds) -> BankImported:
    """It is here already; what was set aside may be accepted by now, its account being ours since."""
    with transaction.atomic():
        accounts = {each.account for each in known}
        _lock(accounts)
        released = _release(accounts, now=now, bounds=bounds)
        note_bank_days(accounts)
    return BankImported(known, again=True, released=released)


def preview_bank_statement(
    *, path: Path, by: str, now: Moment, name: str = "", bounds: Bounds = DEFAULT_BOUNDS
) -> BankPreview:
    """Read a bank's file as `import_bank_statement` would, and say what would become of it."""
    with opened(path, bounds) as source:
        statements = [
            _statement(each, source, name=name or source.name, by=by, now=now, bounds=bounds)
            for each in sorted(_read(source, now=now), key=_order)
        ]
        return BankPreview(source.sha256, statements, _known(source))


def _read(source: Source, *, now: Moment, spool: Spool | None = None) -> list[Statement]:
    """What stands around the entries, which go into the spool if there is one. Raises Refused."""
    bad: list[BadRow] = []
    faults, statements = 0, []
    for item in read_statements(source.chunks()):
        if isinstance(item, Entry):
            if spool is not None:
                spool.add(item.position, _columns(item))
        elif isinstance(item, Statement):
            statements.append(item)
        else:
            faults += 1
            if len(bad) < KEPT:
                bad.append(item)
    if bad:
        raise Refused(bad, count=faults)
    if not statements:
        raise Refused([BadRow(1, "it holds no statement")])
    return _of_these_days(statements, today=now.business.date())


def _of_these_days(statements: list[Statement], *, today: date) -> list[Statement]:
    reasons = [
        why_not_these_days(each.first_day, each.last_day, today=today) for each in statements
    ]
    if bad := [BadRow(1, reason) for reason in reasons if reason]:
        raise Refused(bad)
    return statements


def _known(source: Source) -> list[BankStatement]:
    return list(BankStatement.objects.filter(sha256=source.sha256).order_by("position"))


def _order(statement: Statement) -> tuple[object, ...]:
    """An account's statements one after the other, as each opens with the former's closing."""
    return (statement.account, statement.last_day, statement.sequence or 0, statement.position)


def _stored(
    read: Statement, source: Source, *, name: str, by: str, now: Moment, bounds: Bounds
) -> BankStatement:
    statement = _statement(read, source, name=name, by=by, now=now, bounds=bounds)
    statement.save(force_insert=True)
    return statement


def _statement(
    read: Statement, source: Source, *, name: str, by: str, now: Moment, bounds: Bounds
) -> BankStatement:
    """The row, not stored yet: what the bank says, and whether it may be accepted now."""
    statement = BankStatement(
        account=read.account,
        statement_id=read.statement_id,
        sequence=read.sequence,
        version=read.version,
        first_day=read.first_day,
        last_day=read.last_day,
        opening=read.opening,
        closing=read.closing,
        movement=read.movement,
        entry_count=read.entry_count,
        not_booked=read.not_booked,
        file_name=name[:255],
        sha256=source.sha256,
        position=read.position,
        imported_by=by,
        imported_at=now.real,
    )
    reason = read.summary_differs or _why_set_aside(statement, bounds)
    statement.reason = reason[:300]
    statement.state = ImportState.QUARANTINED if reason else ImportState.ACCEPTED
    statement.accepted_at = None if reason else now.real
    return statement


def _why_set_aside(statement: BankStatement, bounds: Bounds) -> str:
    """Why a statement may not be accepted now, in a sentence; nothing if it may (R40)."""
    if bounds.accounts is not None and statement.account not in bounds.accounts:
        return f"{statement.account} is no account of ours; BANK_ACCOUNTS names those that are"
    total = statement.opening + statement.movement
    if total != statement.closing:
        return (
            f"opening {statement.opening} and entries of {statement.movement} make {total}, but the"
            f" closing is {statement.closing}"
        )
    if _accepted(statement).filter(statement_id=statement.statement_id).exists():
        return f"statement {statement.statement_id} of {statement.account} is here already"
    before, after = _neighbours(statement)
    if before and before.closing != statement.opening:
        return f"opening {statement.opening} is not the former closing {before.closing}"
    if before and _is_gap(before, statement):
        return f"statement number {(before.sequence or 0) + 1} has not come yet"
    if after and after.opening != statement.closing:
        return f"closing {statement.closing} is not the opening {after.opening} that follows"
    return ""


def _accepted(statement: BankStatement) -> QuerySet[BankStatement]:
    return BankStatement.objects.filter(account=statement.account, state=ImportState.ACCEPTED)


def _neighbours(
    statement: BankStatement,
) -> tuple[BankStatement | None, BankStatement | None]:
    """The accepted statements before and after, by last day and then by the bank's own number.

    Of one day, where the bank does not count, each follows what was accepted before it came.
    """
    same_day, number = Q(last_day=statement.last_day), statement.sequence
    earlier, later = Q(last_day__lt=statement.last_day), Q(last_day__gt=statement.last_day)
    if number is None:
        earlier |= same_day
    else:
        earlier |= same_day & (Q(sequence__isnull=True) | Q(sequence__lt=number))
        later |= same_day & Q(sequence__gt=number)
    order = ("last_day", "sequence", "id")
    before = _accepted(statement).filter(earlier).order_by(*(f"-{name}" for name in order)).first()
    return before, _accepted(statement).filter(later).order_by(*order).first()


def _is_gap(before: BankStatement, statement: BankStatement) -> bool:
    """Whether the bank's own numbers leave one out; a number that begins anew is a new year's."""
    if before.sequence is None or statement.sequence is None:
        return False
    return statement.sequence > before.sequence + 1


def _release(accounts: Iterable[str], *, now: Moment, bounds: Bounds) -> list[BankStatement]:
    """Accept the statements that only waited for these, one after the other."""
    released: list[BankStatement] = []
    while follower := next(_followers(accounts, bounds), None):
        follower.state, follower.reason, follower.accepted_at = ImportState.ACCEPTED, "", now.real
        follower.save(update_fields=["state", "reason", "accepted_at"])
        released.append(follower)
    return released


def _followers(accounts: Iterable[str], bounds: Bounds) -> Iterator[BankStatement]:
    aside = BankStatement.objects.filter(account__in=accounts, state=ImportState.QUARANTINED)
    for statement in aside.exclude(reason__startswith="its summary").order_by("last_day", "id"):
        if not _why_set_aside(statement, bounds):
            yield statement


def _copy(statements: Sequence[BankStatement], spool: Spool) -> None:
    """Send the entries into the table, and see that they are those that were added up."""
    spool.send(copy=_COPY, ids={statement.position: statement.pk for statement in statements})
    for statement in statements:
        stored = statement.entries.aggregate(count=Count("id"), movement=Sum("net"))
        movement: Decimal = stored["movement"] or NOTHING
        if (stored["count"], movement) != (statement.entry_count, statement.movement):
            raise Torn(f"{statement}: what was stored is not what was read; import it again")


def _columns(entry: Entry) -> tuple[object, ...]:
    return (
        entry.number,
        entry.booked_on,
        entry.value_on,
        entry.amount,
        entry.side,
        entry.currency,
        entry.is_reversal,
        entry.reference,
        entry.entry_reference,
        entry.end_to_end_id,
        entry.code,
        entry.counterparty,
        entry.remittance,
        entry.payments,
    )


def _lock(accounts: Iterable[str]) -> None:
    """One import an account at a time, in order, so that two files never wait for each other."""
    with connection.cursor() as cursor:
        for account in sorted(accounts):
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"bank:{account}"])


_COPY: Final = """
    COPY settlements_bankentry (
      statement_id, number, booked_on, value_on, amount, side, currency, is_reversal, reference,
      entry_reference, end_to_end_id, code, counterparty, remittance, payments) FROM STDIN
"""
