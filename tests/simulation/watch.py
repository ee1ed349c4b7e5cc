"""What is looked at while it happens, because no row tells of it afterwards."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from checkout.gateways import ChargeRequest
from checkout.messages import Outgoing, Receive
from checkout.models import (
    Attempt,
    AttemptOutcome,
    Charge,
    ChargeState,
    PendingMessage,
    Verdict,
)
from checkout.outcomes import Fate
from checkout.queue import RECEIVES
from tests.simulation.database import looking_on
from tests.simulation.turns import current

if TYPE_CHECKING:
    from tests.simulation.world import World

# A turn that is not frozen waits no longer at a point, in seconds: a worker is ended by its hard limit.
PATIENCE = 100.0


def sending(world: "World", request: ChargeRequest) -> Iterator[str]:
    """R20, R25: a request leaves soon after its commit, and alone among the creator's."""
    under_way = Charge.objects.filter(creator_id=request.creator, state=ChargeState.ATTEMPTING)
    with looking_on():
        attempting = under_way.count()
        sent = Attempt.objects.filter(pk=request.reference).values_list("last_sent_at", flat=True)
        committed = sent.first()
    if attempting > 1:
        yield "two charges of a creator are attempted at once"
    if committed is None:
        yield "a request names no attempt that is committed"
        return
    age = world.clock.real_now() - committed
    # The limit is looked at right before; between the look and the first byte a process may be slow.
    most = timedelta(seconds=world.ages.send_within + PATIENCE)
    if age > most and not world.plan.last_defence:
        yield f"a request was sent {age} after its commit"


def too_soon(world: "World", messages: Sequence[Outgoing]) -> Iterator[str]:
    """STATES, disp with available_at: a dispatch of a later time waits for it in the outbox.

    One that is sent again by hand has its first date again, while another leader may have it in hand.
    """
    if world.plan.queue:
        return
    ids = [message.id for message in messages]
    later = PendingMessage.objects.filter(available_at__gt=world.clock.real_now())
    with looking_on():
        early = later.filter(message_id__in=ids).count() if ids else 0
    if early:
        yield f"{early} dispatches left before their time"


def closed_while_open() -> Iterator[str]:
    """STATES, cancel: what is voided or written off has no attempt that may still capture."""
    closed = [ChargeState.VOIDED, ChargeState.WRITTEN_OFF]
    still = Attempt.objects.filter(outcome=AttemptOutcome.OPEN, charge__state__in=closed)
    with looking_on():
        for attempt in still.select_related("charge"):
            yield f"a charge is {attempt.charge.state} while its attempt {attempt} is open"


class Watched:
    """One receive in a worker's hand."""

    def __init__(self, world: "World", receive: Receive) -> None:
        self._world, self._receive = world, receive
        self._began, self._at = world.clock.monotonic(), _point()
        self._before = self._row()
        numbers = self._before and self._before[:2]
        self._is_stale = numbers != (receive.round, receive.dispatch)

    def _row(self) -> tuple[int, int, int] | None:
        with looking_on():
            charge = Charge.objects.filter(pk=self._receive.charge_id).first()
            return (charge.round, charge.dispatch, charge.attempts.count()) if charge else None

    def complaints(self, fate: Fate) -> Iterator[str]:
        """What a worker may not do with a message: the rows 1 and † of docs/states.md."""
        waited = _point().startswith("charging.")
        alone = _point() == self._at
        if self._is_stale and (waited or (alone and self._row() != self._before)):
            yield "a stale message was carried out"
        took = self._world.clock.monotonic() - self._began
        was_quick = took <= self._world.ages.send_within
        if fate is Fate.LEAVE and self._receive.count >= RECEIVES and was_quick:
            yield "a message was left at its last receive"
        # What was rewritten to be owed meanwhile is moved no more, and its message brings it back.
        is_rewritten = self._receive.charge_id in self._world.rewritten
        if fate is Fate.LEAVE and not is_rewritten and self._was_not_sent():
            yield "a message was left although nothing was sent: a new dispatch takes its place"

    def _was_not_sent(self) -> bool:
        """Whether what this turn was to send is final as not sent: then nobody else sent it either."""
        turn = current()
        if turn is None or turn.attempt is None:
            return False
        with looking_on():
            mine = Attempt.objects.filter(pk=str(turn.attempt))
            return mine.filter(verdict=Verdict.NOT_SENT).exists()


def _point() -> str:
    """Where the turn that runs waited last."""
    turn = current()
    return turn.at if turn else ""
