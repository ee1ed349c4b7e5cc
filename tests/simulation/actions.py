"""What can be done at a step of the storm, and how likely each is in a plan."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from checkout.models import TERMINAL, Charge, Door, Instrument
from checkout.queue import TASK, encode
from tests.simulation.clients import CHECKOUTS, CREATORS, Asked
from tests.simulation.meetings import Meetings
from tests.simulation.network import LANE, SECRET
from tests.simulation.plan import JOBS
from tests.simulation.queue import Message
from tests.simulation.turns import Turn
from tests.simulation.world import CALM_TOKENS, ROUGH_TOKENS, SOFT_TOKENS

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule

# USD a period.
PRICES: Final = {"monthly": "19.99", "weekly": "5.01"}
PLANS: Final = tuple(PRICES)
ZONES: Final = ("UTC", "Asia/Almaty", "Europe/Berlin", "America/New_York")
ADVANCES: Final = (1, 5, 30, *(61,) * 5, 301, 301, 301, 700, 1300, 3700, 8000, 90_000)
MINUTES: Final = (5, 30, 61, 61, 61, 61)
# Over a leap day's place, the ends of short months, and the hours that summer time takes and gives.
DAYS: Final = (1, 3, 4, 7, 7, 31)
JUMPS: Final = (0.04, 1, 28, 31, 59)
CLIENTS, BANK = 2, "bank"
CALM: Final = frozenset(
    {"checkout", "creator", "look", "cancel", "instrument", "requeue", "change plan"}
    | {"days", "time", "statement"}
)
PERSONS: Final = frozenset({"cancel", "instrument", "requeue", "write off", "change plan"})

Action = tuple[float, str, Callable[[], None]]


class Actions:
    """Each begins a turn, moves a clock, or sets a fault going."""

    def __init__(self, schedule: "Schedule") -> None:
        self.schedule = schedule
        self.world = schedule.world
        self.rng = schedule.rng
        self.actors = schedule.actors
        self.meetings = Meetings(self)
        self._tokens = 0
        self._poisons = 0

    def all(self) -> list[Action]:
        plan = self.world.plan
        advances = MINUTES if plan.minutes else ADVANCES
        actions: list[Action] = [
            (4, "checkout", self._checkout),
            (1, "creator", self._creator),
            (1, "look", self._look),
            (20, "receive", self._receive),
            (13, "relay sqs", lambda: self.relay(Door.SQS)),
            (6, "relay kafka", lambda: self.relay(Door.KAFKA)),
            (12, "time", lambda: self.schedule.advance(self.rng.choice(advances))),
            (6 if plan.jumps else 1, "days", self._days),
        ]
        jobs = [n for n in JOBS if n not in plan.without and (n != "reconcile" or plan.reconcile)]
        hot = 4 if plan.busy else 1
        weights = {"resolve": 3 * hot}
        of_jobs: list[Action] = [(weights.get(n, 3), n, self._job(n)) for n in jobs]
        return [*actions, *of_jobs, *self._of_others()]

    def _of_others(self) -> list[Action]:
        plan, hot = self.world.plan, 4 if self.world.plan.busy else 1
        often = 5 if plan.narrow else 1  # of the faults of the queue, where they are alone
        tables: list[tuple[bool, list[Action]]] = [
            (
                plan.people,
                [
                    (3 * hot, "cancel", self._cancel),
                    (3 * hot, "instrument", self._instrument),
                    (3 * hot, "requeue", self._requeue),
                    (1 * hot, "write off", self._write_off),
                    (1 * hot, "change plan", self._change_plan),
                    (1, "pause", self._pause),
                    (1, "resume", self._resume),
                ],
            ),
            (plan.webhooks != "none", [(4 * hot, "webhook", self._webhook)]),
            (plan.forged, [(3, "forged", self._forged)]),
            (plan.statements, [(3, "statement", self._statement)]),
            (plan.queue and plan.allows("lose"), [(often, "lose the queue", self._lose_the_queue)]),
            (plan.queue and plan.allows("repeat"), [(2 * often, "repeat", self._repeat)]),
            (plan.queue and plan.allows("republish"), [(often, "republish", self._republish)]),
            (plan.queue and plan.allows("redrive"), [(often, "redrive", self._redrive)]),
            (plan.poison, [(2, "poison", self._poison)]),
            (plan.shorts, [(2, "short", self._short)]),
            (plan.chaos, [(3, "rewrite", self._rewrite)]),
            (plan.kafka_away, [(2, "kafka away", self._kafka_away)]),
            (plan.sqs_away, [(2, "queue away", self._queue_away)]),
            (plan.processor_away, [(2, "processor away", self._processor_away)]),
            (plan.outage > 0, [(1, "database away", self._database_away)]),
        ]
        return [action for applies, actions in tables if applies for action in actions]

    # --- Clients -----------------------------------------------------------------------------------

    def _asking(self, asked: Asked) -> None:
        names = [f"client {n}" for n in range(CLIENTS)]
        for free in (name for name in names if not self.schedule.is_running(name)):
            self.schedule.begin(free, lambda: self.world.clients.ask(asked))
            return

    def _checkout(self) -> None:
        """A client asks for a subscription; if it hears nothing it asks again with the same key."""
        clients, roll = self.world.clients, self.rng.random()
        unanswered = clients.unanswered
        if unanswered and roll < 0.5:
            self._asking(unanswered[0])
            return
        answered = clients.accepted(CHECKOUTS)
        if answered and roll > 0.95:
            self._asking(self.rng.choice(answered))
            return
        if answered and roll > 0.9:
            self._asking_otherwise(self.rng.choice(answered))
            return
        creator = self.rng.choice(self.actors.creators())
        self._asking(self.new_checkout(creator, same_card=roll < 0.1))

    def new_checkout(self, creator: UUID, *, same_card: bool = False) -> Asked:
        token = self._a_card_of(creator) if same_card else self.new_token()
        body = {"creator_id": str(creator), "plan": self.rng.choice(PLANS), "token": token}
        return self.world.clients.new(CHECKOUTS, body)

    def _asking_otherwise(self, asked: Asked) -> None:
        body = json.loads(asked.body) | {"token": self.new_token()}
        name = "client of a used key"
        if not self.schedule.is_running(name):
            self.schedule.begin(name, lambda: self.world.clients.ask_otherwise(asked, body))

    def _creator(self) -> None:
        if len(self.world.clients.asked) < 12:
            self._asking(self.new_creator())

    def new_creator(self) -> Asked:
        number = sum(1 for a in self.world.clients.asked.values() if a.path == CREATORS)
        body = {
            "external_id": f"creator-{number}",
            "name": "Aigerim Bekova",
            "email": "aigerim@example.org",
            "country": "KZ",
            "time_zone": ZONES[number % len(ZONES)],
        }
        return self.world.clients.new(CREATORS, body)

    def _look(self) -> None:
        accepted = self.world.clients.accepted(CHECKOUTS)
        if accepted and not self.schedule.is_running("look"):
            asked = self.rng.choice(accepted)
            self.schedule.begin("look", lambda: self.world.clients.look(asked))

    def new_token(self) -> str:
        self._tokens += 1
        plan = self.world.plan
        names: Sequence[str] = CALM_TOKENS if plan.calm else ROUGH_TOKENS
        if plan.soft_cards:
            names = SOFT_TOKENS
        return f"tok_{self.rng.choice(names)}_{self._tokens}"

    def _a_card_of(self, creator: UUID) -> str:
        found = Instrument.objects.filter(creator_id=creator, dead_at__isnull=True)
        card = found.order_by("created_at", "token").first()
        return card.token if card else self.new_token()

    # --- Processes of ours ---------------------------------------------------------------------------

    def _job(self, name: str) -> Callable[[], None]:
        """One of a kind at a time, by its lock; two where the lock was lost."""
        names = [name, f"{name} again"] if self.world.plan.two_leaders else [name]

        def act() -> None:
            for free in (each for each in names if not self.schedule.is_running(each)):
                self.schedule.begin(free, getattr(self.actors, name))
                return

        return act

    def _receive(self) -> None:
        heads = self.world.queue.heads()
        if heads and self._free_workers():
            self.receive(self.rng.choice(heads))

    def _free_workers(self) -> list[str]:
        names = [f"worker {n}" for n in range(self.world.plan.workers)]
        return [name for name in names if not self.schedule.is_running(name)]

    def receive(self, head: Message) -> None:
        """A free worker, if there is one, is handed this message, one of the queue's heads."""
        schedule, queue, free = self.schedule, self.world.queue, self._free_workers()
        if not free:
            return
        message = queue.receive(head)
        holders = [turn for turn in schedule.waiting if turn.about == message.id]
        if holders and message.receives > 1:
            self.world.fault("F12 its visibility ran out while a worker has it")
        self.world.note(
            f"{free[0]} receives {message.id} ({message.receives}): {self._of(message)}"
        )
        schedule.run(Turn(free[0], self.actors.work_on(message), about=message.id))

    def _of(self, message: Any) -> str:
        if message.body in self.world.poison:
            return "poison"
        about = message.receive()
        return f"{self.world.name(about.charge_id)} {about.round}:{about.dispatch}"

    def relay(self, door: Door) -> None:
        """Two processes a door: one leads, the other stands by and takes over when it dies."""
        names = [f"relay {door} {n}" for n in range(2)]
        free = [name for name in names if not self.schedule.is_running(name)]
        if not free:
            return
        limit, backlog = self.rng.choice([1, 3, 1000]), self.rng.random() < 0.2
        work = self.actors.relay(door, name=free[0], limit=limit, backlog=backlog)
        turn = Turn(free[0], work)
        turn.runs_through = backlog
        self.schedule.run(turn)

    # --- People --------------------------------------------------------------------------------------

    def _pick(self, found: Iterable[Any], kind: str, act: Callable[[Any], object]) -> None:
        rows = list(found)
        if rows:
            row = self.rng.choice(rows)
            self.world.note(f"{kind}: row {rows.index(row)} of {len(rows)}")
            if kind in PERSONS and any(turn.attempt for turn in self.schedule.waiting):
                self.world.fault(f"F33 a person's {kind} meets an attempt under way")
            self.schedule.begin(kind, lambda: act(row))

    def _cancel(self) -> None:
        self._pick(self.actors.subscriptions(), "cancel", self.actors.cancel)

    def _requeue(self) -> None:
        self._pick(self.actors.exhausted(), "requeue", self.actors.requeue)

    def _write_off(self) -> None:
        self._pick(self.actors.exhausted(), "write off", self.actors.write_off)

    def _change_plan(self) -> None:
        plan = self.rng.choice(PLANS)
        self._pick(
            self.actors.subscriptions(), "change plan", lambda s: self.actors.change_plan(s, plan)
        )

    def _instrument(self) -> None:
        token = self.new_token()
        self._pick(
            self.actors.creators(), "instrument", lambda c: self.actors.add_instrument(c, token)
        )

    def _pause(self) -> None:
        scope, subject = self.rng.choice(
            [("all", ""), ("lane", LANE), ("plan", "weekly"), ("creator", "?")]
        )
        subject = str(self.rng.choice(self.actors.creators())) if subject == "?" else subject
        seconds = self.rng.choice([None, 120, 2000])
        self.schedule.begin("pause", lambda: self.actors.pause(scope, subject, seconds))

    def _resume(self) -> None:
        self._pick(self.actors.holds(), "resume", self.actors.resume)

    def _republish(self) -> None:
        door, hours = self.rng.choice(list(Door)), self.rng.choice([1, 48])
        self.world.fault("F23 published messages are sent again")
        self.schedule.begin("republish", lambda: self.actors.republish(door, hours))

    def _redrive(self) -> None:
        """A person puts the dead letters back, or a message that was done with long ago (F25)."""
        queue = self.world.queue
        if letters := queue.redrive():
            self.world.fault(f"F25 {letters} dead letters are put back by hand")
        elif queue.acknowledged:
            queue.repeat(self.rng.choice(queue.acknowledged))
            self.world.fault("F25 a message that was acknowledged is put back by hand")

    # --- The processor, and the network ---------------------------------------------------------------

    def _webhook(self) -> None:
        """Any of what was announced, in any order; one in a while it is sent again later."""
        announced = self.world.announced
        if announced:
            event = self.rng.choice(announced)
            if self.rng.random() < 0.7:
                announced.remove(event)
            else:
                self.world.fault("F24 a webhook is sent twice, or out of order")
            self.schedule.begin("webhook", lambda: self.world.clients.announce(event))

    def _forged(self) -> None:
        """Of a charge of ours, signed by another, or signed long ago; or of a charge of nobody's."""
        event = self.rng.choice(self.world.announced or [{"reference": str(self.world.account_id)}])
        number = len(self.world.clients.forged)
        forged = {**event, "id": f"evt_forged_{number}", "type": "charge.approved"}
        secret, late = self.rng.choice([("another", 0), (SECRET, 301), (SECRET, -301)])
        self.world.fault("F24 a forged webhook")
        self.schedule.begin(
            "forger", lambda: self.world.clients.forge(forged, secret=secret, late=late)
        )

    def _statement(self) -> None:
        """The files come: in any order where the plan is torn, twice, or cut off."""
        bank, torn = self.world.bank, self.world.plan.torn and not self.world.plan.calm
        bank.close_days()
        if not bank.files or self.schedule.is_running(BANK):
            return
        file = self.rng.choice(bank.files) if torn else bank.files[0]
        roll = self.rng.random()
        if torn and roll < 0.2:
            self.schedule.begin(BANK, lambda: bank.bring_torn(file))
        elif torn and roll < 0.4 and bank.brought:
            again = self.rng.choice(bank.brought)
            self.schedule.begin(BANK, lambda: bank.bring(again))
        else:
            self.schedule.begin(BANK, lambda: bank.bring(file))

    def _short(self) -> None:
        """The processor takes three cents less of somebody's next charge, and says so."""
        creator = str(self.rng.choice(self.actors.creators()))
        self.world.fault("a short capture")
        self.world.processor.instruct({"short": {"creator": creator, "by": "0.03"}})

    # --- Faults ----------------------------------------------------------------------------------------

    def _days(self) -> None:
        """The business clock alone is moved, as CLOCK_FILE does."""
        days = self.rng.choice(JUMPS if self.world.plan.jumps else DAYS)
        if self.world.plan.jumps:
            self.world.fault(f"F21 the business clock jumps {days} days")
        self.world.note(f"business time: {days} days")
        self.world.clock.move_business(days=days)

    def _lose_the_queue(self) -> None:
        self.world.fault(f"F30 the queue loses {self.world.queue.lose_everything()}")

    def _repeat(self) -> None:
        if self.world.queue.messages:
            self.world.queue.repeat(self.rng.choice(self.world.queue.messages))
            self.world.fault("F23 a message is delivered again")

    def _poison(self) -> None:
        """Something in a creator's group that no worker of ours wrote (F22)."""
        self._poisons += 1
        number, group = self._poisons, str(self.rng.choice(self.actors.creators()))
        nobody = {"charge_id": str(self.world.account_id), "round": number, "dispatch": 1}
        body = self.rng.choice(
            [
                f'{{"broken": {number}',
                encode(task=TASK, task_id=f"p{number}", kwargs={"round": "x"}, queue="q"),
                encode(task=TASK, task_id=f"p{number}", kwargs=nobody, queue="q"),
            ]
        )
        self.world.poison[body] = group
        self.world.queue.poison(group, body)
        self.world.fault("F22 a poison message")

    def _rewrite(self) -> None:
        """Any row; but a paid one first of all."""
        paid = Charge.objects.filter(state__in=TERMINAL).order_by("created_at", "id")
        found = list(paid) if self.rng.random() < 0.5 else []
        found = found or list(Charge.objects.order_by("created_at", "id"))
        if not found:
            return
        charge = self.rng.choice(found)
        self.world.note(f"rewrite: {self.world.name(charge.pk)}")
        self.world.fault("F27 a row is rewritten")
        self.schedule.begin("rewrite", lambda: self.actors.rewrite(charge.pk))

    def _kafka_away(self) -> None:
        seconds = self.rng.choice([20, 300, 4000])
        self.world.topic.back_at = self.world.clock.monotonic() + seconds
        self.world.fault(f"F14 Kafka away for {seconds} s")

    def _queue_away(self) -> None:
        seconds = self.rng.choice([20, 60, 400])
        self.world.queue.go_away(seconds)
        self.world.fault(f"F29 SQS away for {seconds} s")

    def _processor_away(self) -> None:
        """For an hour it refuses, answers 503, or hangs up unanswered."""
        how = self.rng.choice(["refused", "unavailable", "drop"])
        if how == "refused":
            self.world.network.refuse(3600)
        else:
            self.world.processor.instruct({"outage": 3600, "outage_mode": how})
        self.world.fault(f"F31 the processor is away for an hour: {how}")

    def _database_away(self) -> None:
        seconds = self.rng.choice([2, 10, 60, 200])
        self.world.away.begin(seconds)
        self.world.fault(f"F18 PostgreSQL away for {seconds} s")
