"""kill -9: at every failpoint of checkout/failpoints.py, and of whole processes wherever they are.

A process is started with FAILPOINTS=name=kill, so it dies each time it comes there. Where a parent looks
after children (gunicorn, Celery) the children die and are forked again; a relay or the timetable is
started again by the supervisor. After enough deaths the process is started without.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import boto3
from botocore.client import Config

from chaos.hands import CLOCK, NotYet, count, move_clock, wait_until
from chaos.parts import RELAYS
from chaos.stage import Outcome, Scenario, Stage

KILLS: Final = 3
WEEK: Final = 7 * 86400.0
# The lines in which gunicorn and Celery tell of a child that died of SIGKILL.
GUNICORN_TELLS: Final = b"was sent SIGKILL"
CELERY_TELLS: Final = b"exited with 'signal 9 (SIGKILL)'"
LETTERS: Final = 4
LOST_ENOUGH: Final = 6
PAUSE_SECONDS: Final = 1.0
QUEUE: Final = "checkout-payments.fifo"
DEAD_LETTERS: Final = "checkout-payments-dlq.fifo"


@dataclass(frozen=True)
class Place:
    """A failpoint, the processes that come there, and what brings them there.

    `provoke` prepares, `again` brings about each single death. `tells` is the log line of a parent whose
    child died; without it the processes' own starts are counted.
    """

    failpoint: str
    processes: tuple[str, ...]
    tells: bytes = b""
    provoke: Callable[[Stage], None] = lambda _: None
    again: Callable[[Stage], None] = lambda _: None
    seconds: float = 60.0


def kill_at(place: Place) -> Callable[[Stage], Outcome]:
    """A scenario's `run`: at least three deaths at this place, then back to health."""

    def run(stage: Stage) -> Outcome:
        began, why = CLOCK.monotonic(), ""
        place.provoke(stage)
        deaths = Deaths(stage, place)
        try:
            start_all(stage, place, FAILPOINTS=f"{place.failpoint}=kill")
            for number in range(1, KILLS + 1):
                place.again(stage)
                deaths.wait_for(number)
        except NotYet as late:
            why = str(late)
        finally:
            killed = deaths.count()
            start_all(stage, place)
        return Outcome(
            facts={"kills": killed, "seconds to kill": round(CLOCK.monotonic() - began, 1)},
            kills={place.failpoint: killed},
            unfulfilled=why,
        )

    return run


def start_all(stage: Stage, place: Place, **variables: str) -> None:
    """All processes of a place anew: both relays of a door, or the healthy one would keep leading."""
    for name in place.processes:
        stage.processes.start(name, **variables)


class Deaths:
    """Counts who dies at a place; made before its processes are started with the failpoint."""

    def __init__(self, stage: Stage, place: Place) -> None:
        self.stage = stage
        self.place = place
        # The start with the failpoint itself is no death.
        self.before = self._so_far() + (0 if place.tells else len(place.processes))

    def count(self) -> int:
        return max(0, self._so_far() - self.before)

    def wait_for(self, wanted: int) -> None:
        """Raises NotYet."""
        wait_until(
            self.stage,
            lambda: self.count() >= wanted,
            seconds=self.place.seconds,
            what=f"{self.place.failpoint}: death {wanted} of {KILLS}",
            look=0.1,
        )

    def _so_far(self) -> int:
        if self.place.tells:
            logs = [self.stage.processes.log(name) for name in self.place.processes]
            return sum(log.read_bytes().count(self.place.tells) for log in logs if log.exists())
        return sum(self.stage.processes.starts(name) for name in self.place.processes)


# --- What brings the timetable to its failpoints ----------------------------------------------------


def a_week_passes(stage: Stage) -> None:
    """Weekly subscriptions fall due once more."""
    move_clock(stage, seconds=WEEK)


def messages_die(stage: Stage) -> None:
    """Be a worker that dies of its messages: receive some three times each, so that SQS gives them up.

    The real worker is stopped meanwhile, or it would take them.
    """
    stage.processes.end("worker")
    sqs = queue_client(stage)
    url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    letters = sqs.get_queue_url(QueueName=DEAD_LETTERS)["QueueUrl"]

    def dead() -> bool:
        sqs.receive_message(
            QueueUrl=url, VisibilityTimeout=0, MaxNumberOfMessages=10, WaitTimeSeconds=0
        )
        asked = sqs.get_queue_attributes(
            QueueUrl=letters,
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            ],
        )
        return sum(map(int, asked["Attributes"].values())) >= LETTERS

    try:
        wait_until(stage, dead, seconds=60, what="dead letters", look=0.05)
    finally:
        stage.processes.launch("worker")


def queue_loses_everything(stage: Stage) -> None:
    """Dispatches reach SQS, nobody receives them, and SQS is killed: the local one forgets them all."""
    stage.processes.end("worker")
    before = sent(stage)
    wait_until(
        stage, lambda: sent(stage) >= before + LOST_ENOUGH, seconds=60, what="messages in the queue"
    )
    stage.processes.kill("sqs")
    stage.processes.wait_until_up("sqs")
    stage.processes.wait_until_up("queues")
    stage.processes.launch("worker")


def sent(stage: Stage) -> int:
    return count(
        stage,
        "SELECT count(*) FROM checkout_outboxmessage WHERE door = 'sqs' AND published_at IS NOT NULL",
    )


def queue_client(stage: Stage) -> Any:
    """SQS beside the link, with hands of our own."""
    return boto3.client(
        "sqs",
        endpoint_url=stage.sqs_url,
        region_name=stage.environment["AWS_REGION"],
        aws_access_key_id=stage.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=stage.environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(connect_timeout=2, read_timeout=10),
    )


# --- Every place -------------------------------------------------------------------------------------

BOTH_DOORS: Final = (*RELAYS["sqs"], *RELAYS["kafka"])
PLACES: Final = (
    Place("bill.batch_committed", ("timetable",), again=a_week_passes),
    Place("api.before_commit", ("web",), tells=GUNICORN_TELLS),
    Place("api.after_commit", ("web",), tells=GUNICORN_TELLS),
    Place("charging.intent_committed", ("worker",), tells=CELERY_TELLS),
    Place("charging.before_send", ("worker",), tells=CELERY_TELLS),
    Place("charging.answered", ("worker",), tells=CELERY_TELLS),
    Place("charging.outcome_committed", ("worker",), tells=CELERY_TELLS),
    Place("relay.before_send", BOTH_DOORS),
    Place("relay.sent_unmarked", BOTH_DOORS),
    Place("relay.marked", BOTH_DOORS),
    Place("resolve.answered", ("timetable",)),
    Place("drain.case_committed", ("timetable",), provoke=messages_die),
    Place("sweep.dispatched", ("timetable",), provoke=queue_loses_everything),
)
# FAULTS: what each place is there for.
FAULTS: Final = {
    "api.before_commit": ("F1",),
    "api.after_commit": ("F2",),
    "charging.intent_committed": ("F7",),
    "charging.before_send": ("F7",),
    "charging.answered": ("F10",),
    "charging.outcome_committed": ("F11",),
    "relay.before_send": ("F4",),
    "relay.sent_unmarked": ("F5", "F15"),
    "relay.marked": ("F5", "F15"),
    "resolve.answered": ("F13",),
    "drain.case_committed": ("F6",),
    "sweep.dispatched": ("F30",),
    "bill.batch_committed": ("F21",),
}


def at_every_failpoint() -> list[Scenario]:
    """One scenario for each name of checkout/failpoints.py."""
    return [
        Scenario(
            name=place.failpoint,
            faults=FAULTS[place.failpoint],
            what=f"kill -9 there, {KILLS} times or more: {', '.join(place.processes)}",
            seconds=30 if place.provoke is queue_loses_everything else 15,
            run=kill_at(place),
        )
        for place in PLACES
    ]


def whole(*names: str) -> Callable[[Stage], Outcome]:
    """A scenario's `run`: SIGKILL processes with all their children, one after the other."""

    def run(stage: Stage) -> Outcome:
        for name in names:
            stage.processes.kill(name)
            stage.sleep(PAUSE_SECONDS)
        for name in names:
            stage.processes.wait_until_up(name)
        return Outcome(facts={"killed": len(names)})

    return run


WHOLE: Final = (
    Scenario("worker killed", ("F6",), "kill -9 with all its children", 8, whole("worker")),
    Scenario("relays killed", ("F5", "F15"), "kill -9, leader and standby", 12, whole(*BOTH_DOORS)),
    Scenario(
        "web and timetable killed",
        ("F1", "F2"),
        "kill -9",
        8,
        whole("web", "timetable", "processor"),
    ),
)
