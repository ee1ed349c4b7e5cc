"""SQS, Kafka, the processor and the way to the web go away and come back; the clock jumps; rows change."""

from typing import Final

import psycopg

from chaos.hands import count, move_clock, rows, wait_until
from chaos.parts import RELAYS
from chaos.stage import Outcome, Scenario, Stage

HOUR: Final = 3600.0
# Back and forth, over a midnight, and on: seconds of the business clock. It ends later than it ever was,
# so that nothing billed on the way stands in the future at the end.
JUMPS: Final = (5 * HOUR, -4 * HOUR, 26 * HOUR, -25 * HOUR, 26 * HOUR)
BETWEEN_JUMPS: Final = 1.5
BROKER_AWAY: Final = 10.0
PROCESSOR_AWAY: Final = 10.0
SAVED_SECONDS: Final = 2.0
REWRITTEN: Final = 3
NAMED_WITHIN: Final = 60.0
HEALED_WITHIN: Final = 90.0
ANSWERS_CUT: Final = 15

_ATTEMPTS: Final = "SELECT count(*) FROM checkout_attempt"
_UNSENT: Final = """
    SELECT count(*) FROM checkout_pendingmessage WHERE door = 'kafka' AND parked_at IS NULL
"""
_BREAKERS: Final = "SELECT count(*) FROM checkout_hold WHERE kind = 'breaker'"
_PAID: Final = """
    SELECT id::text FROM checkout_charge WHERE state = 'succeeded'
    ORDER BY last_seen_at LIMIT %s
"""
_REWRITE: Final = """
    UPDATE checkout_charge SET state = 'failed_then_retry' WHERE id::text = ANY(%s)
"""
_NAMED: Final = """
    SELECT count(DISTINCT charge_id) FROM settlements_discrepancy WHERE charge_id::text = ANY(%s)
"""
_PAID_AGAIN: Final = """
    SELECT count(*) FROM checkout_charge WHERE id::text = ANY(%s) AND state = 'succeeded'
"""


def sqs_away(stage: Stage) -> Outcome:
    """F29: SQS is stopped and comes back; the worker must consume again by itself."""
    stage.processes.stop("sqs")
    stage.sleep(stage.away)
    stage.processes.start("sqs")
    before = count(stage, _ATTEMPTS)
    took = wait_until(
        stage, lambda: count(stage, _ATTEMPTS) > before, seconds=60, what="an attempt afterwards"
    )
    return Outcome(facts={"away seconds": stage.away, "consumes again after": round(took, 1)})


def broker_killed(stage: Stage) -> Outcome:
    """F14: Kafka is killed; web and worker go on, the events wait in the outbox and arrive afterwards.

    The local broker acknowledges about a second before it saves, which no real one does: the relays
    rest that long before the kill, and meet the broker away when they come back.
    """
    for name in RELAYS["kafka"]:
        stage.processes.stop(name)
    stage.sleep(SAVED_SECONDS)
    stage.processes.end("kafka")
    for name in RELAYS["kafka"]:
        stage.processes.start(name)
    stage.sleep(min(stage.away, BROKER_AWAY))
    waiting = count(stage, _UNSENT)
    stage.processes.start("kafka")
    took = wait_until(stage, lambda: count(stage, _UNSENT) < 20, seconds=90, what="events sent")
    return Outcome(
        facts={"events that waited": waiting, "sent after": round(took, 1)},
        unfulfilled="" if waiting else "no event waited: nobody met the broker away",
    )


def processor_away(stage: Stage) -> Outcome:
    """F31: the processor refuses every connection; the breaker pauses its lanes."""
    seconds, before = min(stage.away, PROCESSOR_AWAY), count(stage, _BREAKERS)
    stage.links["processor"].refuse()
    try:
        stage.sleep(seconds)
    finally:
        stage.links["processor"].heal()
    opened = count(stage, _BREAKERS) - before
    return Outcome(
        facts={"away seconds": seconds, "lanes paused": opened},
        unfulfilled="" if opened else "no breaker opened: no lane was paused",
    )


def answers_cut(stage: Stage) -> Outcome:
    """F2: visitors lose the answers that were on their way to them."""
    for _ in range(ANSWERS_CUT):
        stage.links["web"].reset()
        stage.sleep(0.3)
    return Outcome(facts={"cuts": ANSWERS_CUT})


def clock_jumps(stage: Stage) -> Outcome:
    """F21: the business clock jumps forth and back, over midnights, while periods are billed."""
    for jump in JUMPS:
        move_clock(stage, seconds=jump)
        stage.sleep(BETWEEN_JUMPS)
    return Outcome(facts={"jumps": len(JUMPS)})


def rewritten(stage: Stage) -> Outcome:
    """F27: paid rows say failed_then_retry, written behind every trigger.

    Named by the reconciliation within a minute; found to be paid by the worker, not charged again.
    """
    ids = [row[0] for row in rows(stage, _PAID, REWRITTEN)]
    if len(ids) < REWRITTEN:
        return Outcome(unfulfilled="nothing was paid yet")
    with psycopg.connect(stage.admin_url) as hand:
        hand.execute("SET session_replication_role = replica")
        hand.execute(_REWRITE, [ids])
    named = wait_until(
        stage,
        lambda: count(stage, _NAMED, ids) == len(ids),
        seconds=NAMED_WITHIN,
        what="each rewritten row named",
    )
    healed = wait_until(
        stage,
        lambda: count(stage, _PAID_AGAIN, ids) == len(ids),
        seconds=HEALED_WITHIN,
        what="each rewritten row put right",
    )
    facts = {"named after": round(named, 1), "put right after": round(named + healed, 1)}
    return Outcome(facts=facts, rewritten=ids)


SCENARIOS: Final = (
    Scenario("rows rewritten", ("F27",), "paid rows say failed_then_retry", 30, rewritten),
    Scenario("SQS away", ("F29",), "stopped for a while, and back", 25, sqs_away),
    Scenario("broker killed", ("F14",), "Kafka dies, events wait", 25, broker_killed),
    Scenario("processor away", ("F31",), "refuses every connection", 12, processor_away),
    Scenario("answers cut", ("F2",), "the way to the visitors is cut", 7, answers_cut),
    Scenario("clock jumps", ("F21",), "of the business clock, forth and back", 10, clock_jumps),
)
