"""kill -9: at every failpoint of checkout/failpoints.py, and of whole processes wherever they are.

A process is started with FAILPOINTS=name=kill, so it dies each time it comes there. Where a parent looks
after children (gunicorn, Celery) the children die and are forked again; a relay or the timetable is
started again by the supervisor. After enough deaths the process is started without. A death counts only
by the line that the failpoint writes before it kills: a restart, or a child that its parent killed for
being too slow, is a death of another cause.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import httpx

from chaos.hands import CLOCK, NotYet, count, move_clock, wait_until
from chaos.parts import RELAYS
from chaos.stage import Outcome, Scenario, Stage
from checkout.failpoints import last_words
from checkout.queue import client

KILLS: Final = 3
KEPT_SECONDS: Final = 60.0
DEATH_SECONDS: Final = 60.0
WEEK: Final = 7 * 86400.0
DUNNING: Final = 3.5 * 86400.0
CONTROL_SECONDS: Final = 10.0
LANE: Final = "cis"
LETTERS: Final = 4
LOST_ENOUGH: Final = 6
PAUSE_SECONDS: Final = 1.0
QUEUE: Final = "checkout-payments.fifo"
DEAD_LETTERS: Final = "checkout-payments-dlq.fifo"


@dataclass(frozen=True)
class Place:
    """A failpoint, the processes that come there, and what brings them there.

    `provoke` prepares, `again` brings about each single death, and names the messages that it poisoned.
    """

    failpoint: str
    processes: tuple[str, ...]
    faults: tuple[str, ...]
    provoke: Callable[[Stage], None] = lambda _: None
    again: Callable[[Stage], Sequence[str]] = lambda _: ()
    takes: float = 15.0
    # Played once a run: it bills everybody anew.
    once: bool = False


@dataclass(frozen=True)
class Errand:
    """A failpoint that a command of manage.py comes to: `command`, and `words` found out at the time.

    `around` keeps the stack as the command needs it.
    """

    failpoint: str
    command: tuple[str, ...]
    faults: tuple[str, ...]
    words: Callable[[Stage], tuple[str, ...]] = lambda _: ()
    around: Callable[[Stage], AbstractContextManager[None]] = lambda _: nullcontext()
    # How many run at a time; one alone where the first would take all the work.
    at_once: int = KILLS


def kill_at(place: Place) -> Callable[[Stage], Outcome]:
    """A scenario's `run`: at least three deaths at this place, then back to health."""

    def run(stage: Stage) -> Outcome:
        began, why, poisoned = CLOCK.monotonic(), "", list[str]()
        place.provoke(stage)
        deaths = Deaths(stage, place)
        try:
            # Not waited for: a web whose children die of each request may never be up.
            launch_all(stage, place, FAILPOINTS=f"{place.failpoint}=kill")
            for number in range(1, KILLS + 1):
                poisoned += place.again(stage)
                deaths.wait_for(number)
        except NotYet as late:
            why = str(late)
        finally:
            killed = deaths.count()
            launch_all(stage, place)
            for name in place.processes:
                stage.processes.wait_until_up(name)
        why = why or until_kept(stage, poisoned)
        return Outcome(
            facts={"kills": killed, "seconds to kill": round(CLOCK.monotonic() - began, 1)},
            kills={place.failpoint: killed},
            unfulfilled=why,
            poisoned=poisoned,
        )

    return run


def kill_errand(errand: Errand) -> Callable[[Stage], Outcome]:
    """A scenario's `run`: the command is killed at its failpoint three times, as its exit code and last words say.

    Again where it found nothing to do: what a killed one had received is hidden for a while.
    """

    def run(stage: Stage) -> Outcome:
        killed, others, end = 0, list[str](), CLOCK.monotonic() + DEATH_SECONDS
        with errand.around(stage):
            words = (*errand.command, *errand.words(stage))
            run_it = partial(stage.manage, *words, FAILPOINTS=f"{errand.failpoint}=kill")
            while killed < KILLS and not others and CLOCK.monotonic() < end:
                with ThreadPoolExecutor(errand.at_once) as pool:
                    ends = [pool.submit(run_it) for _ in range(errand.at_once)]
                codes = [(each.result().returncode, each.result().stderr) for each in ends]
                ours = [died_at(errand.failpoint, code, said) for code, said in codes]
                killed += sum(ours)
                others += [
                    f"{code}: {said[-300:]}"
                    for (code, said), its in zip(codes, ours, strict=True)
                    if code and not its
                ]
        missing = f"killed {killed} times" if killed < KILLS else ""
        return Outcome(
            facts={"kills": killed},
            kills={errand.failpoint: killed},
            unfulfilled=f"ended otherwise: {'; '.join(others)}" if others else missing,
        )

    return run


def died_at(name: str, code: int, said: str) -> bool:
    """Whether a command that ended so was killed by this failpoint."""
    return code == -signal.SIGKILL and last_words(name).decode() in said


def launch_all(stage: Stage, place: Place, **variables: str) -> None:
    """All processes of a place anew: both relays of a door, or the healthy one would keep leading."""
    for name in place.processes:
        stage.processes.launch(name, **variables)


class Deaths:
    """Counts who dies at a place, by their last words; made before its processes are started with the failpoint."""

    def __init__(self, stage: Stage, place: Place) -> None:
        self.stage = stage
        self.place = place
        # The logs go on from one playing of a scenario to the next.
        self.before = self._so_far()

    def count(self) -> int:
        return self._so_far() - self.before

    def wait_for(self, wanted: int) -> None:
        """Raises NotYet."""
        wait_until(
            self.stage,
            lambda: self.count() >= wanted,
            seconds=DEATH_SECONDS,
            what=f"{self.place.failpoint}: death {wanted} of {KILLS}",
            look=0.1,
        )

    def _so_far(self) -> int:
        words = last_words(self.place.failpoint)
        logs = [self.stage.processes.log(name) for name in self.place.processes]
        return sum(log.read_bytes().count(words) for log in logs if log.exists())


# --- What brings the timetable to its failpoints ----------------------------------------------------


def a_week_passes(stage: Stage) -> Sequence[str]:
    """Weekly subscriptions fall due once more."""
    move_clock(stage, seconds=WEEK)
    return ()


def days_pass(stage: Stage) -> None:
    """The dunning dates of what was declined for funds come: three days after the round."""
    ask = "SELECT count(*) FROM checkout_charge WHERE awaits = 'date'"
    wait_until(stage, lambda: count(stage, ask) >= KILLS, seconds=60, what="charges await a date")
    move_clock(stage, seconds=DUNNING)


def webhooks_for_all(stage: Stage) -> None:
    """The processor tells of each decision from now on, not only of those that took their time."""
    told = httpx.post(
        f"{stage.processor_url}/v1/control",
        headers={"Authorization": f"Bearer {stage.processor_key}"},
        json={"webhooks": "all"},
        timeout=CONTROL_SECONDS,
    )
    told.raise_for_status()


def a_poison_message(stage: Stage) -> Sequence[str]:
    """A message that nobody can read, in a group of its own; its id."""
    sqs, number = queue_client(stage), uuid5(NAMESPACE_URL, f"chaos:{CLOCK.real_now()}")
    sent = sqs.send_message(
        QueueUrl=sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"],
        MessageBody=f"poison {number}",
        MessageGroupId=str(number),
        MessageDeduplicationId=str(number),
    )
    return (sent["MessageId"],)


def until_kept(stage: Stage, poisoned: Sequence[str]) -> str:
    """Wait until each of these is a case, or say that it is not.

    The local queue forgets everything when it is killed: what nobody had received would be lost with it.
    """
    cases = (
        "SELECT count(*) FROM checkout_case WHERE kind = 'unreadable_message' AND subject = ANY(%s)"
    )
    try:
        wait_until(
            stage,
            lambda: count(stage, cases, list(poisoned)) == len(poisoned),
            seconds=KEPT_SECONDS,
            what="a case for each unreadable message",
        )
    except NotYet as late:
        return str(late)
    return ""


@contextmanager
def dead_letters_kept(stage: Stage) -> Iterator[None]:
    """Dead letters lie there, and the timetable does not drain them meanwhile."""
    stage.processes.end("timetable")
    try:
        messages_die(stage)
        yield
    finally:
        stage.processes.launch("timetable")


def statement_of_a_quiet_day(stage: Stage) -> tuple[str, ...]:
    """The processor's statement of the business day before the account's first; the words to import it."""
    day = (CLOCK.real_now() - timedelta(days=2)).date()
    answer = httpx.get(
        f"{stage.processor_url}/v1/statements/{LANE}.csv",
        headers={"Authorization": f"Bearer {stage.processor_key}"},
        params={"from": str(day), "to": str(day)},
        timeout=CONTROL_SECONDS,
    )
    answer.raise_for_status()
    path = stage.home / f"statement-{day}.csv"
    path.write_text(answer.text, "utf-8")
    return (str(path), "--processor", "sandbox", "--account", LANE, "--by", "chaos")


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
    return count(stage, "SELECT count(*) FROM checkout_publishedmessage WHERE door = 'sqs'")


def queue_client(stage: Stage) -> Any:
    """SQS beside the link, with hands of our own."""
    return client(
        endpoint_url=stage.sqs_url,
        region=stage.environment["AWS_REGION"],
        access_key=stage.environment["AWS_ACCESS_KEY_ID"],
        secret=stage.environment["AWS_SECRET_ACCESS_KEY"],
    )


# --- Every place -------------------------------------------------------------------------------------

BOTH_DOORS: Final = (*RELAYS["sqs"], *RELAYS["kafka"])
# By turns of the processes: clients that met a web which died of each request come to rest meanwhile.
PLACES: Final = (
    Place("bill.batch_committed", ("timetable",), ("F4", "F21"), again=a_week_passes, once=True),
    Place("api.before_commit", ("web",), ("F1",)),
    Place("charging.intent_committed", ("worker",), ("F7",)),
    Place("relay.before_send", BOTH_DOORS, ("F4",)),
    Place("dunning.round_opened", ("timetable",), ("F4",), provoke=days_pass, once=True),
    Place("charging.before_send", ("worker",), ("F7",)),
    Place("queue.ten_sent", RELAYS["sqs"], ("F5",)),
    Place("resolve.answered", ("timetable",), ("F10",)),
    Place("commit.written", ("web",), ("F1",)),
    Place("charging.answered", ("worker",), ("F10",)),
    Place("relay.sent_unmarked", BOTH_DOORS, ("F5", "F15")),
    Place("webhook.outcome_committed", ("timetable",), ("F24",), provoke=webhooks_for_all),
    Place("charging.outcome_committed", ("worker",), ("F11",)),
    Place("relay.marked", BOTH_DOORS, ("F5", "F15")),
    Place("reconcile.marks_consumed", ("timetable",), ("R55",)),
    Place("api.after_commit", ("web",), ("F2",)),
    Place(
        "unreadable.case_committed",
        ("worker",),
        ("F22",),
        again=a_poison_message,
    ),
    Place("drain.case_committed", ("timetable",), ("F6",), provoke=messages_die),
    Place("webhook.stored", ("web",), ("F24",), provoke=webhooks_for_all),
    Place("sweep.dispatched", ("timetable",), ("F30",), provoke=queue_loses_everything, takes=35),
)
COMMANDS: Final = (
    Errand("reconcile.slice_committed", ("reconcile",), ("R55",)),
    Errand("topic.records_stored", ("reconcile", "events"), ("F17",)),
    Errand(
        "redrive.sent",
        ("redrive", "--reason", "the chaos run"),
        ("F25",),
        around=dead_letters_kept,
        at_once=1,
    ),
    Errand("statement.copied", ("import_statement",), ("R39",), words=statement_of_a_quiet_day),
)


def at_every_failpoint() -> list[Scenario]:
    """One scenario for each name of checkout/failpoints.py."""
    killed = f"kill -9 there, {KILLS} times or more"
    return [
        *(
            Scenario(
                place.failpoint,
                place.faults,
                f"{killed}: {', '.join(place.processes)}",
                place.takes,
                kill_at(place),
                again=not place.once,
            )
            for place in PLACES
        ),
        *(
            Scenario(
                errand.failpoint,
                errand.faults,
                f"{killed}: manage.py {errand.command[0]}",
                20,
                kill_errand(errand),
            )
            for errand in COMMANDS
        ),
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
