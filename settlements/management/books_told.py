"""What `close_day` and `close_month` share: their arguments, one call inward, and what they tell."""

import json
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final

from django.contrib.auth.models import User
from django.core.management.base import CommandError, OutputWrapper
from django.db import Error

from checkout import wiring
from checkout.clock import Moment
from checkout.commit import DatabaseAway
from checkout.desk import in_commit
from checkout.management.progress import SlowProgress
from checkout.management.trail import SAY_WHY, log_command, person
from checkout.requeues import BY_COMMAND
from settlements import books
from settlements.exports.csv_file import Progress
from settlements.models import BooksClose, Decision, Span
from settlements.suspense import OpenItem

SOMETHING_OPEN: Final = 1
COULD_NOT_RUN: Final = 2
# Seconds: a month of a million lines is hashed in one transaction.
PATIENCE: Final = 600


def close_or_tell(
    out: OutputWrapper,
    *,
    propose: Callable[[Moment, Progress], BooksClose],
    span: Span,
    first_day: date,
    approve: str | None,
    because: str | None,
    as_json: bool,
) -> None:
    """Propose, or lock what waits with the digest `approve`; tell it; end with the command's code.

    Why goes to the audit trail with the decision. What is open is named also where nobody said why.
    """

    def close_it(now: Moment) -> BooksClose:
        with _bar(span, first_day) as bar:
            if approve:
                close = _approve(span, first_day, approve, because, now, bar.advance)
            else:
                close = propose(now, bar.advance)
        _log(close, did="Locked" if approve else "Proposed to close it", because=because)
        return close

    try:
        close = in_commit(close_it, deadline=PATIENCE)
    except books.StillOpen as refusal:
        if as_json:
            out.write(json.dumps({"open": [_told(item) for item in refusal.items]}))
            raise SystemExit(SOMETHING_OPEN) from refusal
        lines = [f"  {i.name}  {i.usd:,.2f} USD  {i.what}" for i in refusal.items]
        told = "\n".join(["open, and no reason to carry it over (--carry NAME=REASON):", *lines])
        raise CommandError(told, returncode=SOMETHING_OPEN) from refusal
    except (books.NotClosable, books.NotDecidable) as refusal:
        raise CommandError(f"nothing was closed: {refusal}", returncode=COULD_NOT_RUN) from refusal
    except (DatabaseAway, Error) as error:
        raise CommandError(f"could not run: {error}", returncode=COULD_NOT_RUN) from error
    out.write(json.dumps(_close_told(close)) if as_json else _in_words(close))


def _bar(span: Span, first_day: date) -> SlowProgress:
    total = books.count_steps(span=span, first_day=first_day)
    return SlowProgress(what=f"Closing the {span}", total=total, clock=wiring.clock())


def _log(close: BooksClose, *, did: str, because: str | None) -> None:
    if not because:
        raise books.NotClosable(SAY_WHY)
    log_command(
        about=BooksClose,
        named=close.pk,
        shown=str(close),
        did=did,
        because=because,
    )


def _approve(
    span: Span, first_day: date, seen: str, because: str | None, now: Moment, progress: Progress
) -> BooksClose:
    if not because:
        raise books.NotDecidable(SAY_WHY)
    _require_right()
    waiting = BooksClose.objects.filter(
        span=span, first_day=first_day, decision__in=[Decision.OPEN, Decision.APPROVED]
    ).first()
    if waiting is None:
        raise books.NotDecidable(f"no proposal to close this {span} waits")
    return books.approve_close(
        close_id=waiting.pk,
        seen=seen,
        by=person(),
        reason=because,
        now=now,
        progress=progress,
    )


def _require_right() -> None:
    """Locking wants the second person's own name: whoever has a shell, or shares one, is nobody (R43)."""
    name = person().removeprefix(BY_COMMAND)
    user = User.objects.filter(username=name, is_active=True, is_staff=True).first()
    if user is None or not user.has_perm("settlements.approve_booksclose"):
        raise books.NotDecidable(
            f"{name} may not lock it: here it takes the name of an approver's own sign-in; "
            "lock it in the admin"
        )


def _told(item: OpenItem) -> dict[str, str]:
    return {"name": item.name, "what": item.what, "usd": f"{item.usd:.2f}"}


def _close_told(close: BooksClose) -> dict[str, Any]:
    return {
        "close": close.name,
        "state": close.decision or "waits for another person",
        "lines": close.line_count,
        "debit_usd": f"{close.debit:.2f}",
        "credit_usd": f"{close.credit:.2f}",
        "journal_sha256": close.journal_sha256,
        "carried": close.carried_count,
        "carried_usd": f"{close.carried_usd:.2f}",
        "sha256": close.sha256,
    }


def _in_words(close: BooksClose) -> str:
    told = _close_told(close)
    width = max(len(name) for name in told)
    return "\n".join(f"{name.replace('_', ' '):{width}}  {value}" for name, value in told.items())


def reasons_of(carry: Sequence[str]) -> dict[str, str]:
    """`NAME=REASON`, each once; ends with 2 for one that says no reason."""
    reasons: dict[str, str] = {}
    for each in carry:
        name, _, reason = each.partition("=")
        if not name or not reason.strip() or name in reasons:
            told = f"--carry {each}: say NAME=REASON, each name once"
            raise CommandError(told, returncode=COULD_NOT_RUN)
        reasons[name] = reason.strip()
    return reasons


def day_of(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day such as 2026-11-22") from None


def month_of(text: str) -> date:
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a month such as 2026-10") from None
