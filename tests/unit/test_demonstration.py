"""The demonstration's own arithmetic: what it would not notice, its proof would not prove."""

import csv
import json
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from demo import proof, story
from demo.journal import captures_of
from demo.receives import count_receives
from demo.stage import Fault, Memory
from processor import behaviour
from processor.control import Control

DEMO = Path("demo")


def rows(name: str) -> list[dict[str, str]]:
    with (DEMO / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_hold_what_is_promised():
    creators, plans = rows("creators.csv"), rows("plans.csv")

    assert len(creators) == 500
    assert len({row["country"] for row in creators}) >= 20
    assert {row["plan"] for row in creators} == {row["code"] for row in plans}
    assert sorted(row["price"] for row in plans) == ["19.99", "199.00", "4.99", "59.97"]
    assert all(re.search(r"@example\.(com|org|net)$", row["email"]) for row in creators)
    assert all(row["source"] and row["source_date"] for row in rows("routing_rules.csv"))


def test_most_cards_are_good_and_every_behaviour_is_among_the_others():
    names = Counter(row["token"].rpartition("_")[0] for row in rows("creators.csv"))

    assert names["tok_approve"] > 400
    for wanted in (
        *("decline_never", "decline_customer_action", "decline_funds", "decline_soft"),
        *("decline_technical", "soft_then_approve_2", "funds_then_approve", "lost", "slow_1s"),
        *("timeout_after_charge", "500_after_charge", "garbled", "429_once", "pending_2s"),
    ):
        assert names[f"tok_{wanted}"] >= 3, wanted
    unknown = [
        name
        for name in names
        if behaviour.decide(name, behaviour.History(), Control()).decline == behaviour.NO_SUCH_TOKEN
    ]
    assert unknown == []


def test_those_with_a_part_in_the_story_are_in_kazakhstan_and_pay_monthly():
    by_id = {row["external_id"]: row for row in rows("creators.csv")}

    for external_id in (story.SHORTED_BY_PROCESSOR, story.SHORTED_BY_HAND):
        row = by_id[external_id]
        assert (row["country"], row["plan"]) == ("KZ", "monthly")
        assert row["token"].startswith("tok_approve")


@pytest.mark.parametrize("script", [story.WHOLE, story.SMALL])
def test_a_month_falls_due_in_the_step_of_the_short_capture(script):
    steps = [0, *script.days]
    before, after = steps[script.short - 1], steps[script.short]

    # The first and second billing date lie so many days after the start, whatever the months.
    assert any(before < first and last <= after for first, last in ((28, 31), (59, 62)))
    assert script.outage <= len(script.days)


def test_the_whole_story_is_three_billing_months():
    assert story.WHOLE.days[-1] >= 92
    assert story.WHOLE.creators == 500


@pytest.mark.parametrize(
    ("places", "gaps"),
    [
        ([], 0),
        ([("a", 1), ("a", 2), ("b", 1)], 0),
        ([("a", 1), ("a", 1), ("a", 2)], 0),
        ([("a", 1), ("a", 3)], 1),
        ([("a", 4), ("b", 2)], 4),
    ],
)
def test_gaps_are_counted_over_all_creators(places, gaps):
    assert proof.sequence_gaps(set(places)) == gaps


def test_only_captures_count_whatever_kind_of_line_tells_of_them():
    lines = [
        {"status": "approved", "charge": "c1", "reference": "r1", "captured_amount": "19.96"},
        {"status": "declined", "charge": "c1", "reference": "r0", "captured_amount": "0.00"},
        {"status": "approved", "charge": "c1", "reference": "r2", "captured_amount": "19.99"},
        {"status": "", "charge": "c2", "reference": "r3", "captured_amount": "0.00"},
    ]

    assert captures_of(lines) == {"c1": [("r1", Decimal("19.96")), ("r2", Decimal("19.99"))]}


def test_receives_are_counted_from_the_workers_log(tmp_path):
    log = tmp_path / "worker.log"
    said = [{"message": "received", "count": count} for count in (1, 3, 2)]
    noise = ["not JSON: received", '{"message": "received", torn', '{"message": "other"}']
    log.write_text("\n".join([*map(json.dumps, said), *noise]))

    assert count_receives(log) == (3, 3)
    assert count_receives(tmp_path / "absent.log") == (0, 0)


@pytest.mark.parametrize(
    ("counted", "sends", "holds"),
    [((5, 3), 5, True), ((5, 3), 6, False), ((5, 4), 5, False), ((0, 0), 0, False)],
)
def test_a_log_that_tells_of_fewer_receives_than_sends_proves_nothing(counted, sends, holds):
    assert proof.receives(Memory(receives=counted, sends=sends)).holds is holds


def test_a_fault_is_timed_from_its_commit_to_its_naming():
    fault = Fault("x", "creator-0001", "c", committed_at="2026-11-23T00:00:00+00:00")
    assert fault.seconds is None

    fault.named_at = "2026-11-23T00:00:01.500000+00:00"
    assert fault.seconds == 1.5


def test_what_was_done_is_remembered(tmp_path):
    memory = Memory(began_on="2026-11-23", steps=3, faults=[Fault("x", "e", "c", "t", "n")])

    memory.write(tmp_path / "memory.json")

    assert Memory.read(tmp_path / "memory.json") == memory
    assert Memory.read(tmp_path / "absent.json") == Memory()


def test_a_line_with_a_why_does_not_hold():
    assert proof.Line("charges", "3 succeeded").holds
    assert not proof.Line("charges", "1 due", "still under way: 1 due").holds
