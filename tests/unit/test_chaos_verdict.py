"""What the verdict makes of claims, scenarios and a load: only a whole proof holds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.diary import Acknowledged, Asked, Diary, Promises
from chaos.figures import FAILED, Finding, Operation, Tally
from chaos.invariants import ACKNOWLEDGED, Claim
from chaos.load import Habits, Load
from chaos.stage import Outcome, Played, Scenario
from chaos.verdict import Verdict, clients_word, scenarios_word

GOOD = Claim("I2", "at most one capture a charge", 12)
LOST = Claim("I1", ACKNOWLEDGED, 40, ["order-7: the charge is gone"])


def played(outcome: Outcome) -> Played:
    scenario = Scenario("kill", ("F6",), "kill a worker", 5, lambda _: outcome)
    return Played(scenario, outcome, began=10.0, ended=15.0, silence=1.5)


def verdict(*claims: Claim, outcome: Outcome | None = None) -> Verdict:
    tally = Tally(begun=0.0, writes=[1.0, 2.0, 9.0])
    return Verdict(
        claims=claims,
        played=[played(outcome or Outcome(kills={"charging.answered": 3}))],
        windows=[tally.window("the whole run", since=0.0, until=10.0)],
        findings=[],
        rest_seconds=4.2,
        buckets=tally.buckets(),
    )


def test_a_verdict_holds_when_every_claim_does() -> None:
    assert verdict(GOOD).holds
    assert "All holds: 1 of 1 claims" in verdict(GOOD).text()


@pytest.mark.parametrize(
    "bad", [LOST, Claim("I5", "events of a creator in order", 0)], ids=["violated", "not looked at"]
)
def test_one_claim_that_does_not_hold_is_enough(bad: Claim) -> None:
    assert not verdict(GOOD, bad).holds
    assert "It does not hold" in verdict(GOOD, bad).text()


def test_the_tables_name_what_was_lost_with_an_example() -> None:
    said = verdict(GOOD, LOST)

    assert said.lost == 1
    assert "acknowledged writes lost: 1" in said.text()
    assert "order-7: the charge is gone" in said.text()
    assert "0: no proof" in verdict(replace(GOOD, looked_at=0)).text()


def test_kills_are_summed_by_failpoint() -> None:
    said = verdict(GOOD)
    twice = replace(said, played=[*said.played, *said.played])

    assert twice.kills == {"charging.answered": 6}
    assert "charging.answered" in twice.text()


def test_programs_read_the_same_as_people() -> None:
    read = json.loads(verdict(GOOD, LOST).json())

    assert (read["holds"], read["acknowledged_writes_lost"]) == (False, 1)
    assert read["longest_seconds_without_writes"] == 7.0
    assert [claim["holds"] for claim in read["claims"]] == [True, False]


def test_a_scenario_that_did_not_come_true_is_a_violation() -> None:
    done, not_done = played(Outcome()), played(Outcome(unfulfilled="it was not killed"))

    assert scenarios_word([done]).holds
    assert not scenarios_word([done, not_done]).holds
    assert not scenarios_word([played(Outcome(skipped="no room for it here"))]).holds
    assert not scenarios_word([]).holds


def stopped_load(folder: Path) -> Load:
    load = Load("http://127.0.0.1:1", "key", Habits(rate=1, seed=1), Diary(folder / "diary"))
    load.tally.operations.append(Operation(0.0, 1.0, "POST", 1, "done", is_write=True))
    load.tally.answers.append((0.0, "201"))
    return load


def test_a_client_that_gave_up_or_was_answered_wrongly_is_a_violation(tmp_path: Path) -> None:
    calm, gave_up, wrong, cut = (stopped_load(tmp_path) for _ in range(4))
    gave_up.tally.operations.append(Operation(0.0, 180.0, "POST", 50, FAILED, is_write=True))
    wrong.tally.findings.append(Finding(1.0, "POST /v1/checkouts", 500, "{}"))
    cut.cut_short = True

    holding = [[claim.holds for claim in clients_word(one)] for one in (calm, gave_up, wrong, cut)]

    assert holding == [[True, True], [False, True], [True, False], [False, True]]


def test_a_diary_is_read_as_it_was_written(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary")
    asked = Asked("key", "/v1/creators", {"name": "Дана"})
    done = Acknowledged(asked, 201, '{"id":"7"}', at=1.5)
    for entry in (asked, done, Asked("other", "/v1/checkouts", {})):
        diary.write(entry)

    read = Promises.read(diary.path)

    assert list(read.asked) == ["key", "other"]
    assert read.acknowledged == (done,)
    assert (done.id, done.charge) == ("7", None)
