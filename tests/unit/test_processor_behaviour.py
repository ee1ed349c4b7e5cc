"""The sandbox processor without HTTP: what each token meets, what is journalled, what it adds up to."""

import csv
import itertools
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor import behaviour, statement
from processor.behaviour import Delivery, Fate, History
from processor.clock import FileClock
from processor.control import Control, IllFormed, changed
from processor.journal import Books, Journal, JournalBroken, JournalUnreadable, Kind, Line
from processor.orders import Order, read_order
from processor.sandbox import DayNotOver, Reply, Sandbox

START = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
NAMES = UUID("00000000-0000-0000-0000-00000000c0de")
CREATOR = "kz-creator"


class SetClock:
    """A clock that moves only when told, or when somebody sleeps."""

    def __init__(self) -> None:
        self.now = START

    def real_now(self) -> datetime:
        return self.now

    def business_now(self) -> datetime:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += timedelta(seconds=seconds)


def reference_of(number: int) -> str:
    return str(uuid5(NAMES, str(number)))


def order(number: int, token: str = "tok_approve", **fields: str) -> Order:
    body = {
        "reference": reference_of(number),
        "amount": fields.get("amount", "19.99"),
        "currency": "USD",
        "token": token,
        "account": fields.get("account", "sandbox-main"),
        "metadata": {
            "creator": fields.get("creator", CREATOR),
            "subscription": "sub",
            "charge": "chg",
            "round": 1,
            "number": 1,
        },
    }
    return read_order(json.dumps(body).encode(), key=reference_of(number))


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def sandbox(clock: SetClock) -> Sandbox:
    return Sandbox(journal=Journal.in_memory(), clock=clock)


def captures(sandbox: Sandbox) -> list[Line]:
    return [line for line in sandbox.lines() if line.status == "approved"]


@pytest.mark.parametrize(
    ("token", "requests", "fate", "delivery", "code"),
    [
        ("tok_approve", 0, Fate.APPROVED, Delivery.ANSWER, ""),
        ("tok_approve_kz_0042", 7, Fate.APPROVED, Delivery.ANSWER, ""),
        ("tok_decline_never", 9, Fate.DECLINED, Delivery.ANSWER, "stolen_card"),
        ("tok_decline_customer_action_x", 0, Fate.DECLINED, Delivery.ANSWER, "expired_card"),
        ("tok_decline_funds", 5, Fate.DECLINED, Delivery.ANSWER, "insufficient_funds"),
        ("tok_decline_soft", 5, Fate.DECLINED, Delivery.ANSWER, "do_not_honor"),
        ("tok_decline_technical", 5, Fate.DECLINED, Delivery.ANSWER, "processing_error"),
        ("tok_soft_then_approve_2_ng7", 1, Fate.DECLINED, Delivery.ANSWER, "do_not_honor"),
        ("tok_soft_then_approve_2_ng7", 2, Fate.APPROVED, Delivery.ANSWER, ""),
        ("tok_soft_then_approve", 0, Fate.DECLINED, Delivery.ANSWER, "do_not_honor"),
        ("tok_soft_then_approve", 1, Fate.APPROVED, Delivery.ANSWER, ""),
        ("tok_technical_then_approve_1", 0, Fate.DECLINED, Delivery.ANSWER, "processing_error"),
        # Digits after these names are a creator's number, not a count.
        ("tok_funds_then_approve_0042", 0, Fate.DECLINED, Delivery.ANSWER, "insufficient_funds"),
        ("tok_funds_then_approve_0042", 1, Fate.APPROVED, Delivery.ANSWER, ""),
        ("tok_lost_0042", 0, Fate.DROPPED, Delivery.HANGUP, ""),
        ("tok_lost_0042", 1, Fate.APPROVED, Delivery.ANSWER, ""),
        ("tok_lost_always", 3, Fate.DROPPED, Delivery.HANGUP, ""),
        ("tok_timeout_after_charge", 0, Fate.APPROVED, Delivery.SILENCE, ""),
        ("tok_timeout_after_charge", 1, Fate.APPROVED, Delivery.ANSWER, ""),
        ("tok_timeout_after_charge_always_a", 5, Fate.APPROVED, Delivery.SILENCE, ""),
        ("tok_500_after_charge_x", 0, Fate.APPROVED, Delivery.SERVER_ERROR, ""),
        ("tok_500_after_charge_x", 1, Fate.APPROVED, Delivery.ANSWER, ""),
        ("tok_garbled", 0, Fate.APPROVED, Delivery.GARBLED, ""),
        ("tok_429_once", 0, Fate.REFUSED, Delivery.ANSWER, ""),
        ("tok_429_once", 1, Fate.APPROVED, Delivery.ANSWER, ""),
        ("tok_slow_3s", 0, Fate.APPROVED, Delivery.ANSWER, ""),
        ("tok_pending", 0, Fate.PENDING, Delivery.ANSWER, ""),
        ("tok_approved", 0, Fate.DECLINED, Delivery.ANSWER, "no_such_token"),
        ("card_number", 0, Fate.DECLINED, Delivery.ANSWER, "no_such_token"),
    ],
)
def test_a_token_meets_what_its_name_says(
    token: str, requests: int, fate: Fate, delivery: Delivery, code: str
) -> None:
    decision = behaviour.decide(token, History(requests), Control())

    assert (decision.fate, decision.delivery) == (fate, delivery)
    assert (decision.decline.code if decision.decline else "") == code


@pytest.mark.parametrize(
    ("token", "after", "ends_as"),
    [
        ("tok_pending", 3.0, Fate.APPROVED),
        ("tok_pending_1s", 1.0, Fate.APPROVED),
        ("tok_pending_1s_decline_gh1", 1.0, Fate.DECLINED),
        ("tok_pending_decline", 3.0, Fate.DECLINED),
        ("tok_pending_stuck", None, Fate.APPROVED),
    ],
)
def test_a_pending_token_says_when_and_how_it_ends(
    token: str, after: float | None, ends_as: Fate
) -> None:
    decision = behaviour.decide(token, History(), Control())

    assert decision.resolves_after == after
    assert decision.resolves_to == ends_as


def test_the_same_key_and_order_is_answered_again_without_a_second_capture(
    sandbox: Sandbox,
) -> None:
    """R23"""
    first = sandbox.charge(order(1))
    again = sandbox.charge(order(1))

    assert again.body == first.body
    assert again.headers == {"Idempotent-Replayed": "true"}
    assert len(captures(sandbox)) == 1


def test_a_key_used_with_another_order_is_refused(sandbox: Sandbox) -> None:
    sandbox.charge(order(1))

    assert sandbox.charge(order(1, amount="20.00")).status == 422
    assert len(captures(sandbox)) == 1


def test_a_forgotten_key_charges_again_which_is_why_nobody_may_send_it(
    sandbox: Sandbox, clock: SetClock
) -> None:
    """R24: the sandbox shows the double capture that a re-send after `idempotent_for` would be."""
    sandbox.instruct({"idempotent_seconds": 60})
    first = sandbox.charge(order(1))
    clock.sleep(60)

    again = sandbox.charge(order(1))

    assert again.body["processor_reference"] != first.body["processor_reference"]
    assert len(captures(sandbox)) == 2
    assert sandbox.query(reference_of(1)).body == first.body


def test_a_lost_request_is_unknown_and_its_repeat_is_charged(sandbox: Sandbox) -> None:
    """F8"""
    lost = sandbox.charge(order(1, "tok_lost_kz1"))

    assert lost.delivery is Delivery.HANGUP
    assert sandbox.query(reference_of(1)).status == 404
    assert sandbox.charge(order(1, "tok_lost_kz1")).body["status"] == "approved"
    assert len(captures(sandbox)) == 1


@pytest.mark.parametrize(
    "token", ["tok_timeout_after_charge", "tok_500_after_charge", "tok_garbled"]
)
def test_a_charge_without_a_proper_answer_is_found_by_query(sandbox: Sandbox, token: str) -> None:
    """F9"""
    unanswered = sandbox.charge(order(1, token))

    found = sandbox.query(reference_of(1))

    assert unanswered.delivery is not Delivery.ANSWER
    assert (found.status, found.body["status"], found.body["amount"]) == (200, "approved", "19.99")
    assert sandbox.charge(order(1, token)).delivery is Delivery.ANSWER
    assert len(captures(sandbox)) == 1


def test_a_forgetful_answer_leaves_no_trace(sandbox: Sandbox) -> None:
    assert sandbox.charge(order(1, "tok_forget")).body["status"] == "approved"
    assert sandbox.query(reference_of(1)).status == 404
    assert sandbox.lines() == []


def test_a_429_is_no_charge(sandbox: Sandbox) -> None:
    assert sandbox.charge(order(1, "tok_429_once_x")).status == 429
    assert captures(sandbox) == []
    assert sandbox.charge(order(2, "tok_429_once_x")).body["status"] == "approved"


@pytest.mark.parametrize(
    ("token", "status"), [("tok_pending_2s", "approved"), ("tok_pending_2s_decline", "declined")]
)
def test_a_pending_charge_is_decided_when_its_time_has_come(
    sandbox: Sandbox, clock: SetClock, token: str, status: str
) -> None:
    assert sandbox.charge(order(1, token)).body["status"] == "pending"
    clock.sleep(1.9)
    assert sandbox.resolve_due() == 0

    clock.sleep(0.1)

    assert sandbox.resolve_due() == 1
    assert sandbox.query(reference_of(1)).body["status"] == status
    assert sandbox.resolve_due() == 0


def test_an_expired_pending_charge_can_never_be_captured(sandbox: Sandbox, clock: SetClock) -> None:
    sandbox.charge(order(1, "tok_pending_1s"))

    assert sandbox.expire(reference_of(1)).body["status"] == "expired"

    clock.sleep(10)
    assert sandbox.resolve_due() == 0
    assert sandbox.query(reference_of(1)) == Reply(
        404, {"error": "expired", "detail": "it was expired and can never be captured"}
    )
    assert sandbox.charge(order(1, "tok_pending_1s")).body["error"] == "expired"
    assert captures(sandbox) == []


def test_expiring_a_captured_charge_answers_the_capture(sandbox: Sandbox) -> None:
    sandbox.charge(order(1))

    assert sandbox.expire(reference_of(1)).body["status"] == "approved"
    assert sandbox.query(reference_of(1)).body["status"] == "approved"


def test_expiring_what_was_never_seen_bars_a_late_arrival(sandbox: Sandbox) -> None:
    assert sandbox.expire(reference_of(1)).body["status"] == "expired"

    assert sandbox.charge(order(1)).status == 409
    assert captures(sandbox) == []


@pytest.mark.parametrize(("by", "captured"), [("0.03", "19.96"), ("-0.03", "20.02")])
def test_the_next_capture_of_a_creator_is_short_by_the_cents_asked_for_once(
    sandbox: Sandbox, by: str, captured: str
) -> None:
    """R37, R38: the under-charge, and the surplus, that reconciliation has to name."""
    sandbox.instruct({"short": {"creator": CREATOR, "by": by}})

    assert sandbox.charge(order(1, "tok_decline_soft")).body["status"] == "declined"
    assert sandbox.charge(order(2, creator="another")).body["amount"] == "19.99"
    assert sandbox.charge(order(3)).body["amount"] == captured
    assert sandbox.charge(order(4)).body["amount"] == "19.99"
    assert sandbox.charge(order(3)).body["amount"] == captured


def test_a_pending_capture_can_be_short_too(sandbox: Sandbox, clock: SetClock) -> None:
    sandbox.charge(order(1, "tok_pending_1s"))
    sandbox.instruct({"short": {"creator": CREATOR, "by": "0.03"}})
    clock.sleep(1)
    sandbox.resolve_due()

    assert sandbox.query(reference_of(1)).body["amount"] == "19.96"


def test_a_token_can_be_told_to_behave_otherwise_with_a_new_history(sandbox: Sandbox) -> None:
    sandbox.charge(order(1))
    sandbox.instruct({"token": {"tok_approve": "soft_then_approve_1"}})

    assert sandbox.charge(order(2)).body["decline_code"] == "do_not_honor"
    assert sandbox.charge(order(3)).body["status"] == "approved"

    sandbox.instruct({"token": {"tok_approve": None}})
    assert sandbox.charge(order(4)).body["status"] == "approved"


def test_an_outage_answers_503_and_ends_by_itself(sandbox: Sandbox, clock: SetClock) -> None:
    """F31"""
    sandbox.instruct({"outage": 10})
    assert sandbox.charge(order(1)).status == 503
    assert sandbox.query(reference_of(1)).status == 503

    sandbox.instruct({"outage_mode": "drop"})
    assert sandbox.expire(reference_of(1)).delivery is Delivery.HANGUP

    clock.sleep(10)
    assert sandbox.charge(order(1)).status == 201


def test_a_forbidden_account_is_refused(sandbox: Sandbox) -> None:
    sandbox.instruct({"forbidden": ["sandbox-kz"]})

    assert sandbox.charge(order(1, account="sandbox-kz")).status == 403
    assert sandbox.charge(order(2)).status == 201


@pytest.mark.parametrize(
    "instruction",
    [
        {"shrot": {}},
        {"short": {"creator": CREATOR}},
        {"short": {"creator": CREATOR, "by": 0.03}},
        {"short": {"creator": CREATOR, "by": "1e1"}},
        {"outage": "yes"},
        {"outage": -1},
        {"latency": None},
        {"latency": float("nan")},
        {"token": ["tok_x"]},
        {"forbidden": "sandbox"},
        {"webhooks": "some"},
    ],
)
def test_an_instruction_that_is_none_changes_nothing(
    sandbox: Sandbox, instruction: dict[str, object]
) -> None:
    assert sandbox.instruct(instruction).status == 400
    with pytest.raises(IllFormed):
        changed(Control(), instruction, at=START)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 19.99),
        ("amount", None),
        ("amount", "19.999"),
        ("amount", "0.00"),
        ("amount", "-1.00"),
        ("amount", "1e2"),
        ("amount", "１９.99"),
        ("amount", " 19.99"),
        ("amount", "019.99"),
        ("currency", "KZT"),
        ("token", ""),
        ("account", "../x"),
        ("metadata", []),
        ("reference", "7"),
    ],
)
def test_an_ill_formed_order_is_refused_naming_the_field(field: str, value: object) -> None:
    """R2, R3, R9"""
    body = {
        "reference": reference_of(1),
        "amount": "19.99",
        "currency": "USD",
        "token": "tok_approve",
        "account": "sandbox-main",
        "metadata": {"creator": "c", "subscription": "s", "charge": "x", "round": 1, "number": 1},
    }

    with pytest.raises(IllFormed, match=field):
        read_order(json.dumps(body | {field: value}).encode(), key=reference_of(1))


def test_an_order_under_another_key_is_refused() -> None:
    with pytest.raises(IllFormed, match="Idempotency-Key"):
        read_order(
            json.dumps({"reference": reference_of(1), "metadata": {}}).encode(), key="another"
        )


def test_the_journal_replays_to_the_same_answers_and_histories(
    tmp_path: Path, clock: SetClock
) -> None:
    path = tmp_path / "journal.ndjson"
    before = Sandbox(journal=Journal.open(path, clock=clock), clock=clock)
    before.instruct({"short": {"creator": CREATOR, "by": "0.03"}})
    before.charge(order(1, "tok_soft_then_approve_2"))
    before.charge(order(2, "tok_lost"))
    before.charge(order(3, "tok_pending_1s"))
    replayed = Books()
    for line in read_lines(path):
        replayed.apply(line)

    after = Sandbox(journal=Journal([*read_lines(path)], lambda _line: None), clock=clock)

    assert replayed.control.shorts == {CREATOR: Decimal("0.03")}
    assert after.lines() == before.lines()
    assert after.charge(order(4, "tok_soft_then_approve_2")).body["status"] == "declined"
    assert after.charge(order(5, "tok_soft_then_approve_2")).body["amount"] == "19.96"
    assert after.charge(order(2, "tok_lost")).body["status"] == "approved"
    clock.sleep(1)
    assert after.resolve_due() == 1


def read_lines(path: Path) -> list[Line]:
    return [Line.from_json(text) for text in path.read_bytes().splitlines()]


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_is_cut_off_at_the_start(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal.ndjson"
    whole = Line(1, "a", "b", Kind.DROPPED).as_json().encode() + b"\n"
    path.write_bytes(whole * 3 + whole[:-cut])

    journal = Journal.open(path, clock=FileClock(None))
    journal.append(Line(4, "c", "d", Kind.DROPPED))

    assert len(journal) == 4
    assert [line.seq for line in read_lines(path)] == [1, 1, 1, 4]


def test_an_unreadable_line_before_the_last_refuses_the_start(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    whole = Line(1, "a", "b", Kind.DROPPED).as_json().encode() + b"\n"
    path.write_bytes(whole + whole[:20] + b"\n" + whole)

    with pytest.raises(JournalUnreadable, match="line 2"):
        Journal.open(path, clock=FileClock(None))


def test_after_a_failed_write_nothing_more_is_decided(clock: SetClock) -> None:
    def full(_line: bytes) -> None:
        raise OSError("no space left on device")

    sandbox = Sandbox(journal=Journal([], full), clock=clock)

    for number in (1, 2):
        with pytest.raises(JournalBroken):
            sandbox.charge(order(number))
    assert sandbox.lines() == []
    assert sandbox.query(reference_of(1)).status == 404


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_a_statement_proves_its_day_to_the_cent(sandbox: Sandbox, clock: SetClock) -> None:
    """R40: opening + lines = closing, and the next day opens where this one closed."""
    sandbox.charge(order(1))
    sandbox.charge(order(2, "tok_decline_funds"))
    sandbox.charge(order(3, account="sandbox-kz"))
    clock.sleep(86_400)
    sandbox.charge(order(4, amount="199.00"))
    clock.sleep(86_400 * 3)

    days = [
        rows(sandbox.statement(account="sandbox-main", first=day, last=day))
        for day in (date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 7), date(2026, 1, 8))
    ]

    assert [row["type"] for row in days[0]] == ["opening", "charge", "closing"]
    assert days[0][1] == {
        "line_id": "ln_" + days[0][1]["processor_reference"],
        "type": "charge",
        "reference": reference_of(1),
        "processor_reference": str(sandbox.query(reference_of(1)).body["processor_reference"]),
        "booked_at": "2026-01-05T09:30:00Z",
        "gross": "19.99",
        "fee": "0.88",
        "net": "19.11",
        "currency": "USD",
        "payout": "po_sandbox-main_20260105",
    }
    assert [(row["type"], row["net"]) for row in days[2]] == [
        ("opening", "212.04"),
        ("payout", "-19.11"),
        ("closing", "192.93"),
    ]
    for day, following in itertools.pairwise(days):
        assert day[-1]["net"] == following[0]["net"]
    whole = rows(
        sandbox.statement(account="sandbox-main", first=date(2026, 1, 5), last=date(2026, 1, 8))
    )
    assert [row["line_id"] for row in whole[1:-1]] == [
        row["line_id"] for day in days for row in day[1:-1]
    ]


def test_a_day_that_is_not_over_has_no_statement(sandbox: Sandbox) -> None:
    with pytest.raises(DayNotOver):
        sandbox.statement(account="sandbox-main", first=START.date(), last=START.date())


cents = st.integers(min_value=1, max_value=999_999_999_999).map(lambda c: Decimal(c) / 100)


@given(st.lists(st.tuples(cents, st.integers(0, 6 * 86_400 - 1)), max_size=12))
def test_every_statement_sums_and_chains(entries: list[tuple[Decimal, int]]) -> None:
    """R40, R4: for any captures, each file adds up and the files join."""
    taken = [
        statement.Capture(str(number), f"sbx_{number}", START + timedelta(seconds=after), amount)
        for number, (amount, after) in enumerate(entries)
    ]
    former = Decimal(0)
    for day in (START.date() + timedelta(days=n) for n in range(-1, 11)):
        first, *lines, last = rows(
            statement.render(account="a", captures=taken, first=day, last=day)
        )
        for line in lines:
            assert Decimal(line["net"]) == Decimal(line["gross"]) - Decimal(line["fee"])
        assert Decimal(first["net"]) == former
        former = Decimal(first["net"]) + sum(Decimal(line["net"]) for line in lines)
        assert Decimal(last["net"]) == former
    assert former == 0


@pytest.mark.parametrize(
    ("amount", "fee"),
    # 2.9 % + 0.30: 0.87971 down, 0.445 up (half up, not to even), the smallest amount.
    [("19.99", "0.88"), ("5.00", "0.45"), ("0.01", "0.30"), ("199.00", "6.07")],
)
def test_the_fee_is_rounded_half_up(amount: str, fee: str) -> None:
    """R4"""
    assert statement.fee(Decimal(amount)) == Decimal(fee)


TOKENS = (
    "tok_approve",
    "tok_soft_then_approve_2",
    "tok_funds_then_approve",
    "tok_timeout_after_charge",
    "tok_500_after_charge_always",
    "tok_lost",
    "tok_429_once",
    "tok_pending_1s",
    "tok_pending_1s_decline",
    "tok_pending_stuck",
    "tok_garbled",
    "tok_decline_never",
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("charge"), st.integers(0, 3), st.sampled_from(TOKENS)),
        st.tuples(st.just("expire"), st.integers(0, 3), st.just("")),
        st.tuples(st.just("wait"), st.integers(0, 3), st.just("")),
        st.tuples(st.just("short"), st.integers(0, 3), st.just("")),
        st.tuples(st.just("restart"), st.just(0), st.just("")),
    ),
    max_size=40,
)


class Story:
    """A sandbox through which a sequence of steps is taken, restarts included."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.journal = Journal.in_memory()
        self.sandbox = Sandbox(journal=self.journal, clock=self.clock)
        self.expired: set[str] = set()

    def charge(self, number: int, token: str) -> None:
        self.sandbox.charge(order(number, token))

    def expire(self, number: int, _token: str) -> None:
        reference = reference_of(number)
        if self.sandbox.expire(reference).body["status"] == "expired":
            self.expired.add(reference)

    def wait(self, number: int, _token: str) -> None:
        self.clock.sleep(number)
        self.sandbox.resolve_due()

    def short(self, _number: int, _token: str) -> None:
        self.sandbox.instruct({"short": {"creator": CREATOR, "by": "0.03"}})

    def restart(self, _number: int, _token: str) -> None:
        lines = [Line.from_json(line.as_json()) for line in self.journal]
        self.journal = Journal(lines, lambda _line: None)
        self.sandbox = Sandbox(journal=self.journal, clock=self.clock)


@settings(max_examples=200)
@given(steps)
def test_no_sequence_captures_a_reference_twice_or_after_a_confirmed_expiry(
    sequence: list[tuple[str, int, str]],
) -> None:
    """I2: at most one capture per reference while its key is remembered."""
    story = Story()
    for word, number, token in sequence:
        getattr(story, word)(number, token)

    taken = captures(story.sandbox)
    assert all(times == 1 for times in Counter(line.reference for line in taken).values())
    assert not {line.reference for line in taken} & story.expired
    for line in taken:
        assert story.sandbox.query(line.reference).body["amount"] == line.captured_amount


def test_a_line_reads_back_as_it_was_written() -> None:
    line = replace(Line(3, "a", "b", Kind.CONTROL), instruction={"latency": 1})

    assert Line.from_json(line.as_json()) == line
