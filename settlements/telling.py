"""Who is told: what finance must hear is written down once, then told until it was heard.

`note` writes notices; `tell` sends them. A notice is written in one transaction with the subjects it
tells of, and a subject is unique: two processes that note at once tell of a thing once. Sending is
at-least-once: a process that dies between the send and its mark leaves a notice that is sent again,
with the same id, and whoever hears an id twice heard one notice. No transaction is open while a
network is waited for: a delivery is claimed by raising its tries, sent, then marked.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol
from uuid import UUID, uuid5

from django.db import connection

from checkout.clock import Ages, Clock, Moment
from checkout.commit import committed
from checkout.page import snapshot
from settlements import drafts
from settlements.drafts import Draft, Terms
from settlements.models import Notice, NoticeDelivery, NoticeItem
from settlements.models.telling import TITLE_LENGTH

logger = logging.getLogger(__name__)

NOTICES: Final = UUID("a3a1f3f0-5f0b-5b8e-8d1e-7f4b0d5f3c77")
# Whoever notes holds this lock, so that a second process finds everything told (the constraint would
# refuse it too, and fail its turn).
LOCK: Final = 0x6E6F74696365
# A whole send, however slowly each of its steps answers.
SEND_SECONDS: Final = 40.0
# A claim must outlast a send, or two processes would be sending one notice at the same time.
FIRST_WAIT: Final = 60.0
LONGEST_WAIT: Final = 3600.0
MOST_A_TURN: Final = 50
# A way that is set later is not told the whole past.
TOLD_WITHIN: Final = timedelta(days=7)


class NotTold(Exception):
    """A way did not take a notice; the text names a class of error or a status, and no address."""


@dataclass(frozen=True)
class Message:
    """A notice as a way sends it."""

    id: UUID
    kind: str
    noticed_at: datetime
    title: str
    text: str
    figures: Mapping[str, object]


class Way(Protocol):
    """How notices leave."""

    @property
    def name(self) -> str: ...

    def tell(self, message: Message, *, at: datetime) -> None:
        """Send it once, at this real time; called on a thread without a database. Raises NotTold."""
        ...


# --- Noting ------------------------------------------------------------------------------------------


def note(*, clock: Clock, ages: Ages, terms: Terms) -> int:
    """Write a notice for each kind of thing that is new; how many. Safe to run again, or twice at once."""
    now = clock.now()
    morning = _digest(now, terms)

    def write() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        found = [draft(now=now, terms=terms) for draft in _DRAFTS]
        if morning and drafts.untold(morning.subjects):
            found.append(morning)
        written = [draft for draft in found if draft]
        for draft in written:
            _write(draft, now=now)
        return len(written)

    return committed(write, deadline=ages.database_wait_before_call, clock=clock)


_DRAFTS: Final[tuple[Callable[..., Draft | None], ...]] = (
    drafts.pages,
    drafts.opened_discrepancies,
    drafts.files,
    drafts.approvals,
)


def _digest(now: Moment, terms: Terms) -> Draft | None:
    """Read in one snapshot, so that no two of its figures disagree."""
    subject = drafts.digest_subject(now=now, terms=terms)
    if subject is None or not drafts.untold([subject]):
        return None
    with snapshot():
        return drafts.digest(subject=subject, now=now, terms=terms)


def _write(draft: Draft, *, now: Moment) -> None:
    notice = Notice.objects.create(
        id=uuid5(NOTICES, draft.subjects[0]),
        kind=draft.kind,
        noticed_at=now.real,
        title=draft.title[:TITLE_LENGTH],
        text="\n".join(draft.lines),
        figures=draft.figures,
    )
    items = (NoticeItem(notice=notice, subject=subject) for subject in draft.subjects)
    NoticeItem.objects.bulk_create(items, batch_size=1000)


# --- Telling -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """Of one turn: how many were taken by a way, and why ways failed."""

    count: int
    failed: Mapping[str, str]

    def __str__(self) -> str:
        why = "".join(f"; {way}: {why}" for way, why in self.failed.items())
        return f"{self.count} told{why}"


def tell(
    *, clock: Clock, ages: Ages, ways: Sequence[Way], send_within: float = SEND_SECONDS
) -> Told:
    """Send what waits and is due on each way, oldest first; a way that fails waits for its next turn.

    `send_within` is in seconds; a send that takes longer is left to itself and counts as not taken.
    """
    run = partial(committed, deadline=ages.database_wait_before_call, clock=clock)
    if ways:
        run(partial(_assign, ways=ways, now=clock.now()))
    count, failed = 0, {}
    for way in ways:
        for _ in range(MOST_A_TURN):
            claimed = run(partial(_claim, way=way.name, now=clock.now()))
            if claimed is None:
                break
            why = _try(way, claimed, at=clock.real_now(), within=send_within)
            run(partial(_mark, claimed, why=why, now=clock.now()))
            if why:
                failed[way.name] = why
                break
            count += 1
    return Told(count, failed)


def _assign(*, ways: Sequence[Way], now: Moment) -> None:
    """Give each young notice that has no way yet all the ways there are; those of older ones stay."""
    waiting = Notice.objects.filter(
        deliveries__isnull=True, noticed_at__gt=now.real - TOLD_WITHIN
    ).values_list("id", flat=True)
    NoticeDelivery.objects.bulk_create(
        [
            NoticeDelivery(notice_id=notice, way=way.name, next_try_at=now.real)
            for notice in waiting
            for way in ways
        ],
        # Two processes may assign at once.
        ignore_conflicts=True,
    )


def _claim(*, way: str, now: Moment) -> NoticeDelivery | None:
    """The oldest due delivery, ours until its next try: who dies with it leaves it to the next turn.

    Of two processes one raises the tries, and the other passes the row by. A claim whose commit was
    lost is found raised when it runs again, and waits as if its sender had died.
    """
    due = NoticeDelivery.objects.filter(way=way, told_at__isnull=True, next_try_at__lte=now.real)
    row = (
        due.select_related("notice")
        .order_by("notice__noticed_at", "id")
        .select_for_update(of=("self",), skip_locked=True)
        .first()
    )
    if row is None:
        return None
    row.tries += 1
    row.next_try_at = now.real + timedelta(seconds=wait_after(row.tries))
    row.save(update_fields=["tries", "next_try_at"])
    return row


def wait_after(tries: int) -> float:
    """Seconds until the next try after this many: one minute, doubled each time, at most an hour."""
    return min(FIRST_WAIT * 2.0 ** min(tries - 1, 10), LONGEST_WAIT)


def _try(way: Way, claimed: NoticeDelivery, *, at: datetime, within: float) -> str:
    """One send; why it was not taken, or nothing."""
    notice = claimed.notice
    message = Message(
        id=notice.pk,
        kind=notice.kind,
        noticed_at=notice.noticed_at,
        title=notice.title,
        text=notice.text,
        figures=notice.figures,
    )
    known = {"notice": str(notice.pk), "way": way.name, "tries": claimed.tries}
    try:
        _Send(partial(way.tell, message, at=at)).run(within=within)
    except NotTold as error:
        logger.warning("a notice was not taken", extra=known | {"why": str(error)})
        return str(error)
    logger.info("a notice was told", extra=known)
    return ""


@dataclass
class _Send:
    """One send on a thread of its own: who drips an answer byte by byte holds up neither way."""

    work: Callable[[], None]
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def run(self, *, within: float) -> None:
        """Raises what the work raises; NotTold after so many seconds, and the thread ends by itself."""
        threading.Thread(target=self._run, name="tell", daemon=True).start()
        if not self.done.wait(within):
            raise NotTold(f"no end within {within:g} s")
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001  it is raised where the send was asked for
            self.error = error
        self.done.set()


def _mark(claimed: NoticeDelivery, *, why: str, now: Moment) -> None:
    """Say what became of a try; what somebody else marked meanwhile stays."""
    row = NoticeDelivery.objects.filter(pk=claimed.pk, told_at__isnull=True)
    row.update(why=why[:100], told_at=None if why else now.real)
