"""Many exhausted charges opened again at once: chosen, shown before, approved, then carried out.

1. `dry_run` chooses by lane, class of decline, what they await and time; it writes nothing.
2. `propose` writes down exactly those. Above the limit another person approves (R43).
3. `carry_out` opens each charge's round in a transaction of its own, as a single requeue does. What
   was killed on the way goes on where it stopped: the timetable carries out whatever is unfinished.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet, Sum

from checkout.clock import Ages, Clock, Moment
from checkout.commit import DatabaseAway, committed
from checkout.models import (
    Awaits,
    BulkRequeue,
    BulkRequeueItem,
    ChargeState,
    Creator,
    Hold,
    HoldScope,
    RequeueDecision,
    RequeueOutcome,
)
from checkout.moves import locked_charge
from checkout.rescue import NotRequeueable, requeue
from checkout.routing import lanes_on

logger = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 10_000
BATCH: Final = 200
BY_COMMAND: Final = "command line: "
# What one person requeued alone counts so long towards the limit.
LIMIT_FOR: Final = timedelta(days=1)
_LOCK: Final = 0x7E9E0E  # any number of our own

CANCELLED: Final = "it was cancelled"
DEAD_INSTRUMENT: Final = "its creator's instrument is dead; another one opens the round"
CAPPED: Final = "its instrument is at the cap of attempts"
IN_DOUBT: Final = "an attempt is open: the resolver asks"
NO_LANE: Final = "no lane serves its creator's country"
PAID: Final = "a capture pays it already"
WAITS_ELSEWHERE: Final = "it waits in another bulk requeue"


class NotChosen(Exception):
    """These cannot be requeued together; the message says why, and what to do."""


class NotDecidable(Exception):
    """This person cannot decide this bulk requeue now; the message says why."""


@dataclass(frozen=True)
class Limit:
    """What one person may requeue within a day: so many charges, and so much USD."""

    count: int
    usd: Decimal


@dataclass(frozen=True)
class Choice:
    """Which exhausted charges: an empty word or None means any. Times are UTC, by the real clock."""

    lane: str = ""
    decline_class: str = ""
    awaits: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def __str__(self) -> str:
        parts = [
            f"lane {self.lane}" if self.lane else "",
            f"last declined as {self.decline_class}" if self.decline_class else "",
            f"awaiting {'an' if self.awaits == Awaits.INSTRUMENT else 'a'} {self.awaits}"
            if self.awaits
            else "",
            f"exhausted from {self.since:%Y-%m-%d %H:%M} UTC" if self.since else "",
            f"exhausted before {self.until:%Y-%m-%d %H:%M} UTC" if self.until else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Found:
    """A charge that was looked at; `left_because` is empty for one that may be requeued."""

    charge_id: UUID
    round: int
    amount: Decimal
    left_because: str


@dataclass(frozen=True)
class Left:
    """How many are left out for one reason, and their USD."""

    because: str
    count: int
    usd: Decimal


@dataclass(frozen=True)
class DryRun:
    """What a bulk requeue would do now."""

    taken: tuple[Found, ...]
    left: tuple[Found, ...]

    @property
    def count(self) -> int:
        return len(self.taken)

    @property
    def usd(self) -> Decimal:
        return _usd(self.taken)

    @property
    def sha256(self) -> str:
        return _digest((each.charge_id, each.round, each.amount) for each in self.taken)

    @property
    def reasons(self) -> list[Left]:
        """The left out by reason, the most frequent first."""
        groups: dict[str, list[Found]] = {}
        for each in self.left:
            groups.setdefault(each.left_because, []).append(each)
        lefts = [Left(because, len(group), _usd(group)) for because, group in groups.items()]
        return sorted(lefts, key=lambda left: (-left.count, left.because))

    def is_above(self, limit: Limit) -> bool:
        """Whether a second person has to approve it."""
        return self.count > limit.count or self.usd > limit.usd


def _usd(found: Iterable[Found]) -> Decimal:
    return sum((each.amount for each in found), Decimal("0.00"))


def _digest(seen: Iterable[tuple[UUID, int, Decimal]]) -> str:
    lines = sorted(f"{charge_id}:{round}:{amount:.2f}" for charge_id, round, amount in seen)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# --- Looking ---------------------------------------------------------------------------------------

# An exhausted charge was last seen when its round ended: nothing else touches it. Read from the index
# `charge_exhausted` alone.
_CHOSEN: Final = """
    SELECT c.id FROM checkout_charge c
    WHERE c.state = 'exhausted'
      AND (%(lane)s = '' OR c.lane = %(lane)s)
      AND (%(awaits)s = '' OR c.awaits = %(awaits)s)
      AND (%(since)s::timestamptz IS NULL OR c.last_seen_at >= %(since)s::timestamptz)
      AND (%(until)s::timestamptz IS NULL OR c.last_seen_at < %(until)s::timestamptz)
      AND (%(decline_class)s = '' OR %(decline_class)s = (
            SELECT a.decline_class FROM checkout_attempt a
            WHERE a.charge_id = c.id AND a.decline_class <> ''
            ORDER BY a.round DESC, a.number DESC LIMIT 1))
    LIMIT %(most)s
"""
_COUNT: Final = f"SELECT count(*) FROM ({_CHOSEN}) c"  # noqa: S608  of the constant above
_NAMED: Final = "SELECT unnest(%(ids)s::uuid[]) AS id"
# The charges first, at most so many: what else is asked is looked up for each of them.
_LOOK: Final = """
    WITH chosen AS MATERIALIZED ({chosen})
    SELECT c.id, c.round, c.amount, c.state, c.creator_id, c.void_requested, t.plan_id, k.country,
           EXISTS (SELECT 1 FROM checkout_attempt a
                   WHERE a.charge_id = c.id AND a.outcome = 'captured'),
           EXISTS (SELECT 1 FROM checkout_attempt a
                   WHERE a.charge_id = c.id AND a.outcome = 'open'),
           i.id IS NULL OR i.dead_at IS NOT NULL,
           (SELECT count(*) FROM (SELECT 1 FROM checkout_attempt a
                                  WHERE a.instrument_id = i.id AND a.started_at > %(window)s
                                    AND a.verdict <> 'not_sent' LIMIT %(cap)s) recent) >= %(cap)s,
           (SELECT min(w.requeue_id) FROM checkout_bulkrequeueitem w
            WHERE w.charge_id = c.id AND w.outcome = '')
    FROM chosen
    CROSS JOIN LATERAL (SELECT * FROM checkout_charge WHERE id = chosen.id OFFSET 0) c
    CROSS JOIN LATERAL (SELECT plan_id FROM checkout_subscriptionterms
                        WHERE id = c.terms_id OFFSET 0) t
    CROSS JOIN LATERAL (SELECT country FROM checkout_creator WHERE id = c.creator_id OFFSET 0) k
    LEFT JOIN LATERAL (SELECT id, dead_at FROM checkout_instrument
                       WHERE creator_id = c.creator_id
                       ORDER BY created_at DESC, id DESC LIMIT 1) i ON true
    ORDER BY c.id
"""


def dry_run(*, choice: Choice, now: Moment, ages: Ages) -> DryRun:
    """What would be requeued now, and why the rest would be left; writes nothing.

    Raises NotChosen for a choice that says nothing, and for more than MOST_AT_ONCE charges.
    """
    if choice == Choice():
        raise NotChosen("choose by at least one of lane, class, what they await, since, until")
    values = vars(choice) | {"most": MOST_AT_ONCE + 1}
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, values)
        (count,) = cursor.fetchone()
    if count > MOST_AT_ONCE:
        raise NotChosen(f"more than {MOST_AT_ONCE:,} charges: choose a shorter time")
    found = _look(_CHOSEN, values, now=now, ages=ages)
    return DryRun(
        taken=tuple(each for each in found if not each.left_because),
        left=tuple(each for each in found if each.left_because),
    )


def _named(ids: Sequence[UUID], *, of: int, now: Moment, ages: Ages) -> dict[UUID, Found]:
    """These charges as they stand now, for the bulk requeue that they wait in."""
    found = _look(_NAMED, {"ids": list(ids)}, of=of, now=now, ages=ages)
    return {each.charge_id: each for each in found}


def _look(
    chosen: str, values: dict[str, Any], *, now: Moment, ages: Ages, of: int | None = None
) -> list[Found]:
    values = values | {
        "window": now.real - timedelta(seconds=ages.attempts_window),
        "cap": ages.attempts_per_instrument,
    }
    lanes = lanes_on(now.business.date())
    held = {(hold.scope, hold.subject): hold for hold in Hold.objects.in_force(now.real)}
    with connection.cursor() as cursor:
        cursor.execute(_LOOK.replace("{chosen}", chosen), values)
        rows = cursor.fetchall()
    return [Found(row[0], row[1], row[2], _why_left(row, lanes, held, of)) for row in rows]


def _why_left(
    row: Sequence[Any],
    lanes: dict[str, str],
    held: dict[tuple[str, str], Hold],
    of: int | None,
) -> str:
    """Why a round of this charge would not be opened, or would not be tried; the first that fits."""
    (
        _,
        _,
        _,
        state,
        creator_id,
        void_requested,
        plan,
        country,
        paid,
        is_open,
        dead,
        capped,
        waits,
    ) = row
    lane = lanes.get(country, "")
    places = (
        (HoldScope.ALL, ""),
        (HoldScope.LANE, lane),
        (HoldScope.PLAN, plan),
        (HoldScope.CREATOR, str(creator_id)),
    )
    hold = next((held[place] for place in places if place in held), None)
    reasons = (
        (state != ChargeState.EXHAUSTED, f"it is {state}"),
        (waits not in {None, of}, WAITS_ELSEWHERE),
        (paid, PAID),
        (void_requested, CANCELLED),
        (is_open, IN_DOUBT),
        (dead, DEAD_INSTRUMENT),
        (capped, CAPPED),
        (not lane, NO_LANE),
        (hold, f"held: {hold}"),
    )
    return next((why for holds, why in reasons if holds), "")


# --- Deciding --------------------------------------------------------------------------------------


def by_another(person: str) -> Q:
    """Proposed by somebody else than this person, who may therefore decide it (R43)."""
    return ~_by(person)


def _by(person: str) -> Q:
    """Proposed by this person, on a page or at the command line."""
    name = person.removeprefix(BY_COMMAND)
    return Q(proposed_by__in=[name, f"{BY_COMMAND}{name}"])


def left_of(limit: Limit, *, by: str, now: Moment) -> Limit:
    """What of the limit this person has not used up alone in the 24 hours until now.

    Without it many small requeues would do what one large one may not. On the page and on the command
    line he is the same person.
    """
    used = BulkRequeue.objects.filter(
        _by(by),
        needs_approval=False,
        proposed_at__gt=now.real - LIMIT_FOR,
    ).aggregate(count=Sum("count"), usd=Sum("usd"))
    return Limit(
        count=max(limit.count - (used["count"] or 0), 0),
        usd=max(limit.usd - (used["usd"] or 0), Decimal("0.00")),
    )


def propose(
    *,
    choice: Choice,
    by: str,
    reason: str,
    limit: Limit,
    now: Moment,
    ages: Ages,
    seen: str | None = None,
) -> BulkRequeue:
    """Write down what `choice` finds now; within what is left of the limit it is carried out, above
    it it waits.

    `seen` is the digest of the dry run that the person saw. Runs in the caller's transaction. Raises
    NotChosen when it finds nothing, or something else than was seen.
    """
    with connection.cursor() as cursor:
        # Two at once: the second must find the charges of the first waiting already.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    plan = dry_run(choice=choice, now=now, ages=ages)
    if not plan.taken:
        raise NotChosen("none of the charges found can be requeued")
    if seen is not None and seen != plan.sha256:
        raise NotChosen("what it would do has changed since it was shown: look at it again")
    limit = left_of(limit, by=by, now=now)
    run = BulkRequeue.objects.create(
        **vars(choice),
        reason=reason,
        count=plan.count,
        usd=plan.usd,
        sha256=plan.sha256,
        limit_count=limit.count,
        limit_usd=limit.usd,
        needs_approval=plan.is_above(limit),
        proposed_by=by,
        proposed_at=now.real,
    )
    BulkRequeueItem.objects.bulk_create(
        (
            BulkRequeueItem(
                requeue=run, charge_id=each.charge_id, round=each.round, amount=each.amount
            )
            for each in plan.taken
        ),
        batch_size=1000,
    )
    logger.info("bulk requeue", extra={"bulk_requeue": run.pk, "by": by, "count": run.count})
    return run


def approve(
    *, requeue_id: int, seen: str, by: str, reason: str, now: Moment, ages: Ages
) -> BulkRequeue:
    """Let be carried out what another person proposed, exactly as this one saw it.

    Runs in the caller's transaction. Raises NotDecidable if it was decided, if the same person
    proposed it, or if what it would do has changed since.
    """
    run = _undecided(requeue_id)
    if run.proposed_by.removeprefix(BY_COMMAND) == by:
        raise NotDecidable("who proposed it does not approve it")
    # Nothing that it is about may move between the look and the commit.
    Creator.lock(set(run.items.values_list("charge__creator_id", flat=True)))
    if present_digest(run, now=now, ages=ages) != run.sha256:
        raise NotDecidable("what it would do has changed: withdraw it and propose anew")
    if seen != run.sha256:
        raise NotDecidable("the page showed something else: look at it again")
    return _decide(run, RequeueDecision.APPROVED, by=by, reason=reason, now=now)


def present_digest(run: BulkRequeue, *, now: Moment, ages: Ages) -> str:
    """The digest of those of its charges that could be requeued at this moment."""
    ids = list(run.items.values_list("charge_id", flat=True))
    found = _named(ids, of=run.pk, now=now, ages=ages).values()
    return _digest((f.charge_id, f.round, f.amount) for f in found if not f.left_because)


def refuse(*, requeue_id: int, by: str, reason: str, now: Moment) -> BulkRequeue:
    """Decide against another person's bulk requeue. Raises NotDecidable."""
    run = _undecided(requeue_id)
    if run.proposed_by.removeprefix(BY_COMMAND) == by:
        raise NotDecidable("who proposed it withdraws it")
    return _give_back(run, RequeueDecision.REFUSED, by=by, reason=reason, now=now)


def withdraw(*, requeue_id: int, by: str, reason: str, now: Moment) -> BulkRequeue:
    """Take one's own or a colleague's bulk requeue back before it is decided. Raises NotDecidable."""
    run = _undecided(requeue_id)
    return _give_back(run, RequeueDecision.WITHDRAWN, by=by, reason=reason, now=now)


def _undecided(requeue_id: int) -> BulkRequeue:
    run = BulkRequeue.objects.select_for_update(no_key=True).get(pk=requeue_id)
    if not run.needs_approval:
        raise NotDecidable("it is within the limit of one person and carried out")
    if run.decision != RequeueDecision.OPEN:
        raise NotDecidable(f"it was {run.decision} by {run.decided_by}")
    return run


def _decide(
    run: BulkRequeue, decision: RequeueDecision, *, by: str, reason: str, now: Moment
) -> BulkRequeue:
    run.decision, run.decided_by = decision, by
    run.decided_at, run.decided_because = now.real, reason
    if decision != RequeueDecision.APPROVED:
        run.finished_at = now.real
    run.save(
        update_fields=["decision", "decided_by", "decided_at", "decided_because", "finished_at"]
    )
    facts = {"bulk_requeue": run.pk, "decision": str(decision), "by": by}
    logger.info("bulk requeue decided", extra=facts)
    return run


def _give_back(
    run: BulkRequeue, decision: RequeueDecision, *, by: str, reason: str, now: Moment
) -> BulkRequeue:
    """Its charges are free for another one."""
    run.items.filter(outcome=RequeueOutcome.WAITS).update(
        outcome=RequeueOutcome.LEFT, left_because=f"it was {decision}", done_at=now.real
    )
    return _decide(run, decision, by=by, reason=reason, now=now)


# --- Carrying out ----------------------------------------------------------------------------------


def carry_out_all(*, clock: Clock, ages: Ages) -> int:
    """Carry out every bulk requeue that may be and is not finished; how many rounds were opened."""
    unfinished = BulkRequeue.objects.filter(finished_at__isnull=True).order_by("proposed_at", "id")
    runs = [run for run in unfinished if run.is_allowed]
    return sum(carry_out(requeue_id=run.pk, clock=clock, ages=ages) for run in runs)


def carry_out(
    *,
    requeue_id: int,
    clock: Clock,
    ages: Ages,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Open the round of each charge that still waits in it, each in a transaction of its own.

    Two may do it at once, and either may be killed anywhere: a charge is looked at anew under its
    creator's lock, and one that moved since is left, with the reason. Returns how many were opened.
    """
    waiting = BulkRequeueItem.objects.filter(requeue_id=requeue_id, outcome=RequeueOutcome.WAITS)
    opened, last = 0, 0
    while batch := list(_ids_after(waiting, last)):
        for item_id in batch:
            try:
                opened += committed(
                    partial(_carry_out_one, item_id, now=clock.now(), ages=ages),
                    deadline=ages.database_wait_before_call,
                    clock=clock,
                )
            except DatabaseAway:
                raise
            except Exception:
                # It goes on waiting for the next turn, and stops no other.
                logger.exception("requeue failed", extra={"item": item_id})
            progress(1)
        last = batch[-1]
    committed(
        partial(_finish, requeue_id, now=clock.now()),
        deadline=ages.database_wait_before_call,
        clock=clock,
    )
    return opened


def _ids_after(waiting: QuerySet[BulkRequeueItem], last: int) -> QuerySet[BulkRequeueItem, int]:
    return waiting.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH]


def _carry_out_one(item_id: int, *, now: Moment, ages: Ages) -> bool:
    """Whether its round was opened here; what it is about is read under the creator's lock."""
    charge = locked_charge(BulkRequeueItem.objects.get(pk=item_id).charge_id)
    item = BulkRequeueItem.objects.select_related("requeue").get(pk=item_id)
    run = item.requeue
    if item.outcome != RequeueOutcome.WAITS or not run.is_allowed:
        return False
    found = _named([charge.pk], of=run.pk, now=now, ages=ages)[charge.pk]
    why = found.left_because
    if not why and (found.round, found.amount) != (item.round, item.amount):
        why = "its round or amount is not what was chosen"
    if not why:
        try:
            requeue(charge_id=charge.pk, by=run.proposed_by, reason=run.reason, now=now)
        except NotRequeueable as refusal:
            why = str(refusal)
    item.outcome = RequeueOutcome.LEFT if why else RequeueOutcome.REQUEUED
    item.left_because, item.done_at = why[:300], now.real
    item.save(update_fields=["outcome", "left_because", "done_at"])
    return not why


def _finish(requeue_id: int, *, now: Moment) -> None:
    run = BulkRequeue.objects.select_for_update(no_key=True).get(pk=requeue_id)
    waits = run.items.filter(outcome=RequeueOutcome.WAITS).exists()
    if run.finished_at is None and run.is_allowed and not waits:
        run.finished_at = now.real
        run.save(update_fields=["finished_at"])
