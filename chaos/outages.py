"""PostgreSQL fails over, stops, refuses writes, falls silent, is late, has a full disk."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final

from chaos.hands import rows, wait_until
from chaos.stage import Outcome, Scenario, Stage

ALONE_SECONDS: Final = 4.0
READ_ONLY_SECONDS: Final = 6.0
SILENT_SECONDS: Final = 8.0
LATE_SECONDS: Final = 12.0
LATENCY: Final = 0.5
RESETS: Final = 25
BETWEEN_RESETS: Final = 0.2
FULL_SECONDS: Final = 10.0
NO_SPACE: Final = b"No space left on device"
CHUNK_BYTES: Final = 64 * 1024


def failover(stage: Stage) -> Outcome:
    """F18: kill the primary with all its backends, promote the standby, later give it a standby anew."""
    seconds = stage.cluster.promote()
    stage.sleep(ALONE_SECONDS)
    stage.cluster.make_standby()
    return Outcome(facts={"failover seconds": round(seconds, 2)})


def immediate_stop(stage: Stage) -> Outcome:
    """F18: the primary drops everything at once, and recovers from its log."""
    name = stage.cluster.primary
    pid = stage.processes.pid(name)
    if pid is None:
        return Outcome(unfulfilled=f"{name} was not up")
    os.kill(pid, signal.SIGQUIT)
    took = wait_until(
        stage,
        lambda: stage.processes.pid(name) not in (pid, None) and rows(stage, "SELECT 1"),
        seconds=60,
        what="the primary up again",
        look=0.05,
    )
    return Outcome(facts={"down seconds": round(took, 2)})


def read_only(stage: Stage) -> Outcome:
    """F18: every session of the primary is read-only for a while."""
    set_read_only(stage, value="on")
    try:
        stage.sleep(READ_ONLY_SECONDS)
    finally:
        set_read_only(stage, value="off")
    return Outcome(facts={"read-only seconds": READ_ONLY_SECONDS})


def set_read_only(stage: Stage, *, value: str) -> None:
    rows(stage, f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    rows(stage, "SELECT pg_reload_conf()")


def led_to_the_standby(stage: Stage) -> Outcome:
    """F18: the name of the database leads to a server in recovery for a while, as in a botched failover."""
    link = stage.links["postgres"]
    home, away = link.upstream, stage.cluster.address(stage.cluster.standby)
    link.upstream = away
    link.reset()
    try:
        stage.sleep(READ_ONLY_SECONDS)
    finally:
        link.upstream = home
        link.reset()
    return Outcome(facts={"read-only seconds": READ_ONLY_SECONDS})


def black_hole(stage: Stage) -> Outcome:
    """F18: connections stand, connects succeed, and nothing is answered: what no socket option notices."""
    link = stage.links["postgres"]
    link.black_hole()
    try:
        stage.sleep(SILENT_SECONDS)
    finally:
        link.heal()
    return Outcome(facts={"silent seconds": SILENT_SECONDS})


def late(stage: Stage) -> Outcome:
    """F20: half a second more for each round trip to PostgreSQL."""
    link = stage.links["postgres"]
    link.latency = LATENCY
    try:
        stage.sleep(LATE_SECONDS)
    finally:
        link.latency = 0.0
    return Outcome(facts={"late seconds": LATE_SECONDS})


def resets(stage: Stage) -> Outcome:
    """F3: all connections to PostgreSQL are cut, many times, so that some lose a commit's answer."""
    for _ in range(RESETS):
        stage.links["postgres"].reset()
        stage.sleep(BETWEEN_RESETS)
    return Outcome(facts={"resets": RESETS})


def disk_full(stage: Stage) -> Outcome:
    """F19: the primary's file system has no byte left for a while."""
    name = stage.cluster.primary
    folder = stage.home / name
    if not folder.is_mount():
        return Outcome(skipped="needs root and a mount of its own for the data folder")
    log = stage.processes.log(name)
    before = log.read_bytes().count(NO_SPACE)
    with ballast(folder) as fill:
        for _ in range(int(FULL_SECONDS / 0.5)):
            fill()
            stage.sleep(0.5)
    refused = log.read_bytes().count(NO_SPACE) - before
    wait_until(stage, lambda: rows(stage, "SELECT 1"), seconds=60, what="the primary up again")
    why = "" if refused else "PostgreSQL met no full disk"
    return Outcome(
        facts={"full seconds": FULL_SECONDS, "refused for want of space": refused}, unfulfilled=why
    )


@contextmanager
def ballast(folder: Path) -> Iterator[Callable[[], None]]:
    """A file that takes what is free at each call, and is gone afterwards."""
    path = folder / "ballast"
    try:
        with path.open("ab", buffering=0) as file:
            yield lambda: fill_up(file)
    finally:
        path.unlink(missing_ok=True)


def fill_up(file: FileIO) -> None:
    with suppress(OSError):  # there is no space left: as it was meant
        while True:
            file.write(b"\0" * CHUNK_BYTES)


SCENARIOS: Final = (
    Scenario(
        "failover", ("F18",), "primary killed, standby promoted, standby made anew", 12, failover
    ),
    Scenario("immediate stop", ("F18",), "pg_ctl stop -m immediate, recovery", 5, immediate_stop),
    Scenario("connections cut", ("F3", "F18"), "resets amid commits", 7, resets),
    Scenario("read-only", ("F18",), "default_transaction_read_only = on", 8, read_only),
    Scenario("led to the standby", ("F18",), "the name leads to a standby", 8, led_to_the_standby),
    Scenario("black hole", ("F18",), "the link to PostgreSQL swallows all", 12, black_hole),
    Scenario("500 ms", ("F20",), "on each round trip to PostgreSQL", 16, late),
    Scenario("disk full", ("F19",), "no byte left for the primary", 16, disk_full),
)
