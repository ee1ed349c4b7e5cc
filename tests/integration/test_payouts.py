"""Payouts add up, land by the bank's own credit, and prove the settlements whose lines they hold."""

import re
import threading
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import DatabaseError, connection, transaction

from checkout import failpoints
from checkout.failpoints import Crash
from checkout.models import Attempt, OutboxMessage
from checkout.topics import validate_payload
from processor.statement import Capture, render
from processor.statement import fee as fee_of
from settlements import reconciliation, resolving
from settlements.closing import close_periods
from settlements.clues import clues_of
from settlements.explaining import explain
from settlements.models import (
    Discrepancy,
    Kind,
    Payout,
    PayoutCredit,
    PayoutPart,
    ProofMark,
    Settlement,
    SettlementLine,
    StatementLine,
    Way,
    ways_of,
)
from settlements.payouts import Cash, cash_expected
from settlements.roles import VIEWER
from tests.factories import LANE, World
from tests.factories_bank import Credit, bank_take_in
from tests.factories_matches import approved_match, proposed_match
from tests.factories_payouts import (
    LAST_OF_JANUARY,
    LEFT,
    NAME,
    NET,
    accepted_short,
    captured_world,
    credited,
    named,
    prove,
    stated,
    with_lines,
)
from tests.factories_roles import member, pages_at
from tests.factories_settlements import edit, statement_text, take_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return captured_world()


def found(world: World) -> list[tuple[str, str]]:
    reconciliation.reconcile(clock=world.clock, ages=world.ages, kinds=[Kind.PAYOUT])
    return [(each.code, each.explanation) for each in reconciliation.standing(kinds=[Kind.PAYOUT])]


def raw(sql: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(sql)


# --- Gathered ------------------------------------------------------------------------------------------


def test_a_payout_is_what_its_lines_come_to(world, tmp_path: Path):
    payout = stated(world, tmp_path)

    sums = (payout.gross, payout.fees, payout.net, payout.paid)
    assert sums == (Decimal("19.99"), Decimal("-0.88"), NET, NET)
    assert (payout.lane, payout.processor, payout.value_on) == (LANE, "sandbox", LEFT)
    assert (payout.line_count, payout.landed_on) == (1, None)


def test_a_payout_spread_over_files_is_the_sum_of_its_parts(world, tmp_path: Path):
    for n, day in enumerate((LAST_OF_JANUARY, date(2026, 2, 1), LEFT)):
        take_in(statement_text(day), world=world, folder=tmp_path, name=f"{n}.csv")
        prove(world)
        prove(world)

    payout = Payout.objects.get()
    assert [(part.net, part.paid) for part in payout.parts.order_by("id")] == [
        (NET, Decimal("0.00")),
        (Decimal("0.00"), NET),
    ]
    assert (payout.net, payout.paid) == (NET, NET)


def test_every_kind_of_line_is_in_one_sum(world, tmp_path: Path):
    extra = [
        ("refund", "-5.00", "0.10"),
        ("dispute", "-2.00", "0.00"),
        ("dispute_fee", "-1.50", "0.00"),
        ("reversal", "2.00", "0.00"),
        ("fee", "-0.20", "0.00"),
        ("adjustment", "0.03", "0.00"),
        ("reserve_hold", "-1.00", "0.00"),
        ("reserve_release", "0.40", "0.00"),
    ]
    balance = NET + sum(Decimal(gross) - Decimal(fee) for _, gross, fee in extra)
    take_in(with_lines(statement_text(LAST_OF_JANUARY), *extra), world=world, folder=tmp_path)

    prove(world)

    payout = Payout.objects.get()
    sums = {name: str(getattr(payout, name)) for name in ("refunds", "disputes", "adjustments")}
    assert sums == {"refunds": "-5.00", "disputes": "0.00", "adjustments": "0.03"}
    assert (str(payout.reserve), str(payout.fees)) == ("-0.60", "-2.68")
    assert payout.net == balance


@pytest.mark.django_db(transaction=True)
def test_two_gatherers_at_once_and_one_that_died_add_each_file_once(tmp_path: Path):
    world = World()
    world.receive(world.due_charge())
    world.clock.forward(days=3)
    take_in(statement_text(LAST_OF_JANUARY, LEFT), world=world, folder=tmp_path)

    def die() -> None:
        raise Crash

    failpoints.enable("commit.written", die)
    try:
        with pytest.raises(Crash):
            prove(world)
    finally:
        failpoints.disable("commit.written")
    assert not PayoutPart.objects.exists()
    barrier = threading.Barrier(2)

    def run() -> None:
        try:
            barrier.wait(20)
            prove(world)
        finally:
            connection.close()

    runs = [threading.Thread(target=run) for _ in range(2)]
    for one in runs:
        one.start()
    for one in runs:
        one.join()

    assert PayoutPart.objects.count() == 1
    assert Payout.objects.get().net == NET


# --- Landed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "credit",
    [
        named(),
        named(end_to_end="NOTPROVIDED", words=f"Payout {NAME}, thank you"),
        named(end_to_end="NOTPROVIDED", words=f"/INV/{NAME}"),
    ],
)
def test_a_credit_that_names_the_payout_lands_it(world, tmp_path: Path, credit: Credit):
    stated(world, tmp_path)
    credited(world, tmp_path, credit)

    assert prove(world).payouts == 1
    assert prove(world).payouts == 0

    assert Payout.objects.get().landed_on == date(2026, 2, 3)
    assert found(world) == []


def test_the_bank_may_be_first(world, tmp_path: Path):
    credited(world, tmp_path, named())
    assert prove(world).payouts == 0

    assert stated(world, tmp_path).landed_on == date(2026, 2, 3)


@pytest.mark.parametrize(
    "credit",
    [
        named(end_to_end="NOTPROVIDED"),
        named(end_to_end=NAME + "1"),
        named(end_to_end="NOTPROVIDED", words=f"{NAME}1"),
        named(is_reversal=True),
        Credit(str(NET), date(2026, 2, 8), end_to_end="another"),
    ],
)
def test_r42_what_does_not_name_it_is_not_its_credit(world, tmp_path: Path, credit: Credit):
    stated(world, tmp_path)
    credited(world, tmp_path, credit)

    prove(world)

    assert Payout.objects.get().landed_on is None
    assert not PayoutCredit.objects.exists()
    ((code, said),) = found(world)
    assert code == "missing"
    assert f"{LANE} {NAME} of 19.11 USD left on 2026-02-02" in said


@pytest.mark.parametrize(
    ("credits", "code", "said"),
    [
        ([named("19.10")], "amount", "0.01 USD too little at the bank"),
        ([named("19.12")], "amount", "0.01 USD too much at the bank"),
        ([named(), named()], "duplicate", "2 times: 38.22 instead of 19.11"),
    ],
)
def test_r38_a_credit_that_differs_by_a_cent_lands_nothing_and_is_named(
    world, tmp_path: Path, credits, code, said
):
    stated(world, tmp_path)
    credited(world, tmp_path, *credits)

    prove(world)

    assert Payout.objects.get().landed_on is None
    ((found_code, explanation),) = found(world)
    assert (found_code, said in explanation) == (code, True), explanation
    assert not Settlement.objects.filter(proved_at__isnull=False).exists()


def test_what_a_bank_kept_lands_the_payout_once_two_people_accepted_it(world, tmp_path: Path):
    """R42, R43: a fee of the bank's; the settlement is proved by what left, to the cent."""
    accepted_short(world, tmp_path)

    payout = Payout.objects.get()
    assert (payout.landed_on, payout.kept) == (date(2026, 2, 3), Decimal("15.00"))
    assert Settlement.objects.filter(proved_at__isnull=False).exists()
    assert found(world) == []
    cash = cash_expected(first=date(2026, 2, 1), last=date(2026, 2, 28))
    assert sum(each.landed for each in cash) == Decimal("4.11")


def test_what_a_bank_kept_is_not_taken_back_once_it_landed(world, tmp_path: Path):
    short = accepted_short(world, tmp_path)

    with pytest.raises(resolving.NotReopenable, match="has landed with it"):
        resolving.reopen(discrepancy_ids=[short.pk], by="ann", reason="no", now=world.clock.now())
    with pytest.raises(DatabaseError, match="what has landed stays landed"):
        raw("UPDATE settlements_payout SET kept = 0")


def test_a_second_credit_leaves_what_the_bank_kept_of_the_first(world, tmp_path: Path):
    accepted_short(world, tmp_path)
    again = Credit("4.11", date(2026, 2, 10), end_to_end=NAME)
    world.clock.forward(days=10)

    bank_take_in(
        [again],
        world=world,
        folder=tmp_path,
        first=date(2026, 2, 9),
        last=date(2026, 2, 12),
        opening="4.11",
    )
    prove(world)

    assert [code for code, _ in found(world)] == ["duplicate"]
    assert Payout.objects.get().kept == Decimal("15.00")


def test_what_a_bank_credited_too_much_is_accepted_by_nobody(world, tmp_path: Path):
    stated(world, tmp_path)
    credited(world, tmp_path, named("119.11"))
    prove(world)
    assert [code for code, _ in found(world)] == ["amount"]
    much = Discrepancy.objects.get(fingerprint__endswith=":bank")

    with pytest.raises(resolving.NotProposable, match="evidence alone"):
        resolving.propose(
            discrepancy_ids=[much.pk],
            way=Way.ACCEPTED,
            by="ann",
            reason="a gift",
            now=world.clock.now(),
        )


def test_r34_raw_sql_cannot_land_a_payout_with_another_amount_than_was_accepted(
    world, tmp_path: Path
):
    payout = stated(world, tmp_path)
    credited(world, tmp_path, named("4.11"))
    prove(world)

    with pytest.raises(DatabaseError, match="no single credit"):
        raw(f"UPDATE settlements_payout SET landed_on = '2026-02-03' WHERE id = {payout.pk}")


def test_r38_a_payout_line_that_is_not_its_lines_sum_is_named(world, tmp_path: Path):
    text = statement_text(LAST_OF_JANUARY, LEFT).replace(
        f"-{NET},0.00,-{NET}", f"-{NET - 1},0.00,-{NET - 1}"
    )
    head, _, closing = text.rstrip("\n").rpartition("\n")
    closing = closing.replace(",0.00,USD", ",1.00,USD")
    take_in(f"{head}\n{closing}\n", world=world, folder=tmp_path)
    credited(world, tmp_path, named(str(NET - 1)))

    prove(world)

    assert Payout.objects.get().landed_on is None
    assert found(world) == [
        (
            "amount",
            f"1.00 USD too little in the payout {LANE} {NAME}: its 1 lines come to 19.11, 18.11 left.",
        )
    ]


def test_a_payout_that_only_its_own_line_names_lands_and_proves_nothing(world, tmp_path: Path):
    """As in a bank's file, or a report of manual payouts: nobody says which charges were in it."""
    rows = [
        row.replace(NAME, "") if ",charge," in row else row
        for row in statement_text(LAST_OF_JANUARY, LEFT).splitlines()
    ]
    take_in("\n".join(rows) + "\n", world=world, folder=tmp_path)
    prove(world)
    assert found(world) == []
    credited(world, tmp_path, named())

    proved = prove(world)

    assert (proved.payouts, proved.settlements) == (1, 0)
    payout = Payout.objects.get()
    assert (payout.line_count, payout.paid, payout.landed_on) == (0, NET, date(2026, 2, 3))
    assert found(world) == []


def test_a_payout_line_that_names_no_payout_is_named(world, tmp_path: Path):
    """What left stays in clearing, and two people may accept that nobody knows whose it is."""
    text = statement_text(LAST_OF_JANUARY, LEFT)
    (left,) = [row for row in text.splitlines() if ",payout," in row]
    take_in(text.replace(left, left.removesuffix(NAME)), world=world, folder=tmp_path)
    credited(world, tmp_path, named())
    prove(world)

    line = StatementLine.objects.get(type="payout")
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    unnamed = Discrepancy.objects.get(fingerprint=f"payout:unmatched:line:{line.pk}")
    assert (unnamed.lane, unnamed.expected, unnamed.actual) == (LANE, Decimal("0.00"), NET)
    assert f"19.11 USD left {LANE}, and names no payout" in unnamed.explanation
    assert [code for code, _ in found(world)] == ["unmatched"]
    assert explain(clues_of(unnamed))[0].entry == ()
    assert ways_of(unnamed) == [Way.ACCEPTED]


def test_a_payout_that_no_bank_statement_covers_yet_is_not_missing(world, tmp_path: Path):
    """R53's rule, for the bank."""
    stated(world, tmp_path)
    assert found(world) == []

    bank_take_in([], world=world, folder=tmp_path, first=LEFT, last=date(2026, 2, 6))
    assert found(world) == []


def test_a_second_credit_after_it_landed_is_named(world, tmp_path: Path):
    stated(world, tmp_path)
    credited(world, tmp_path, named())
    prove(world)
    bank_take_in(
        [Credit(str(NET), date(2026, 2, 9), NAME)],
        world=world,
        folder=tmp_path,
        first=date(2026, 2, 9),
        last=date(2026, 2, 9),
        opening=str(NET),
    )

    prove(world)

    assert [code for code, _ in found(world)] == ["duplicate"]


# --- Proved --------------------------------------------------------------------------------------------


def test_a_settlement_is_proved_once_all_its_lines_have_landed(world, tmp_path: Path):
    stated(world, tmp_path)
    assert Settlement.objects.get().proved_at is None
    credited(world, tmp_path, named())

    proved = prove(world)

    assert (proved.settlements, proved.net) == (1, Decimal("19.99"))
    assert Settlement.objects.get().proved_at == world.clock.business_now()
    told = OutboxMessage.objects.get(type="settlement.proved")
    validate_payload(told.type, told.payload)
    assert told.subject == Settlement.objects.get().pk
    assert prove(world).settlements == 0
    assert not ProofMark.objects.exists()


def test_a_settlement_that_is_closed_after_its_payout_landed_is_proved_then(world, tmp_path: Path):
    """The fee came with the file, so it is in February's; the payout landed weeks before that closed."""
    stated(world, tmp_path)
    credited(world, tmp_path, named())
    prove(world)
    world.clock.forward(days=27)
    close_periods(clock=world.clock, ages=world.ages)

    assert prove(world).settlements == 1

    late = Settlement.objects.get(period_start=date(2026, 2, 1))
    assert (late.net, late.proved_at is None) == (Decimal("-0.88"), False)
    told = OutboxMessage.objects.filter(key=late.creator_id, door="kafka").order_by("id")
    assert list(told.values_list("event_seq", flat=True)) == list(range(1, len(told) + 1))


def test_a_line_that_says_another_amount_than_was_captured_proves_nothing(world, tmp_path: Path):
    """A cent kept back by the processor: payout and bank agree with each other, not with us."""
    text = statement_text(LAST_OF_JANUARY, LEFT)
    text = text.replace("19.99,0.88,19.11", "19.98,0.88,19.10").replace("19.11", "19.10")
    take_in(text, world=world, folder=tmp_path)
    credited(world, tmp_path, named("19.10"))

    assert prove(world).payouts == 1

    assert Settlement.objects.get().proved_at is None


def test_a_capture_that_is_stated_twice_proves_nothing(world, tmp_path: Path):
    """R41."""
    row = next(r for r in statement_text(LAST_OF_JANUARY).splitlines() if ",charge," in r)
    text = statement_text(LAST_OF_JANUARY, LEFT).replace(row, f"{row}\n{row}")
    text = text.replace(f"-{NET},0.00,-{NET}", f"-{2 * NET},0.00,-{2 * NET}")
    take_in(text, world=world, folder=tmp_path)
    credited(world, tmp_path, named(str(2 * NET)))

    assert prove(world).payouts == 1

    assert Settlement.objects.get().proved_at is None


# --- Cash ----------------------------------------------------------------------------------------------


def test_cash_by_day_and_lane(world, tmp_path: Path):
    window = {"first": date(2026, 2, 1), "last": date(2026, 2, 28)}
    nothing = Decimal("0.00")
    promised = Cash(LEFT, LANE, Decimal("19.99"), nothing, nothing)
    assert cash_expected(**window) == [promised]

    stated(world, tmp_path)
    assert cash_expected(**window) == [Cash(LEFT, LANE, Decimal("19.99"), NET, nothing)]

    credited(world, tmp_path, named())
    prove(world)
    assert cash_expected(**window) == [Cash(date(2026, 2, 3), LANE, nothing, nothing, NET)]
    assert cash_expected(first=date(2026, 3, 1), last=date(2026, 3, 2)) == []


def page(world: World, address: str) -> str:
    with pages_at(world.clock):
        answer = member(VIEWER).get(address)
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", answer.content.decode())


def test_each_figure_of_the_cash_page_leads_to_exactly_its_list(world, tmp_path: Path):
    """R47: the list behind a figure prints the same sum."""
    settlements, all_payouts = "/admin/settlements/settlement/", "/admin/settlements/payout/"
    assert f'<a href="{settlements}?lands={LEFT}">19.99</a>' in page(world, "/admin/cash/")
    listed = page(world, f"{settlements}?lands={LEFT}")
    assert "<strong>1 settlement</strong>" in listed
    assert "19.99 USD" in listed
    assert "<strong>0 settlements</strong>" in page(world, f"{settlements}?lands=2026-02-03")

    stated(world, tmp_path)
    link = f"{all_payouts}?left={LEFT}&amp;lane={LANE}"
    assert f'<a href="{link}">19.11</a>' in page(world, "/admin/cash/")
    assert "19.11 USD" in page(world, link.replace("&amp;", "&"))
    assert "<strong>0 payouts</strong>" in page(world, f"{all_payouts}?left={LEFT}&lane=other")

    credited(world, tmp_path, named())
    prove(world)
    link = f"{all_payouts}?landed=2026-02-03&amp;lane={LANE}"
    assert f'<a href="{link}">19.11</a>' in page(world, "/admin/cash/")
    assert "19.11 USD" in page(world, link.replace("&amp;", "&"))


def test_cash_past_its_day_is_said_first(world, tmp_path: Path):
    assert "Past its day: 19.99 USD promised and not proved." in page(world, "/admin/cash/")

    stated(world, tmp_path)
    assert "19.11 USD that the processors sent and no bank" in page(world, "/admin/cash/")

    credited(world, tmp_path, named())
    prove(world)
    assert "Past its day" not in page(world, "/admin/cash/")


def test_a_day_that_is_none_is_said_so(world):
    assert "“2026-02-30” is no day" in page(world, "/admin/cash/?around=2026-02-30")
    assert "No settlement lands" in page(world, "/admin/cash/?around=2030-01-01")


# --- What the database refuses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE settlements_payout SET gross = gross + 1, net = net + 1", "its parts say"),
        ("UPDATE settlements_payout SET net = net + 1", "payout_net"),
        ("UPDATE settlements_payout SET landed_on = '2026-02-03'", "no single credit"),
        ("UPDATE settlements_payout SET reference = 'x'", "never change"),
        ("DELETE FROM settlements_payout", "never changed or deleted"),
        ("UPDATE settlements_payoutpart SET paid = 0", "never changed or deleted"),
        ("DELETE FROM settlements_payoutpart", "never changed or deleted"),
        ("DELETE FROM settlements_gatheredstatement", "never changed or deleted"),
    ],
)
def test_r34_raw_sql_cannot_make_a_payout_say_something_else(world, tmp_path: Path, sql, said):
    stated(world, tmp_path)

    with pytest.raises(DatabaseError, match=said):
        raw(sql)


def test_what_has_landed_stays_landed(world, tmp_path: Path):
    stated(world, tmp_path)
    credited(world, tmp_path, named())
    prove(world)

    for sql in (
        "UPDATE settlements_payout SET landed_on = NULL",
        "UPDATE settlements_payout SET landed_on = landed_on + 1",
        "DELETE FROM settlements_payoutcredit",
        "UPDATE settlements_settlement SET proved_at = NULL",
    ):
        with pytest.raises(DatabaseError, match=r"stays landed|never change"):
            raw(sql)


# --- Matched by hand -----------------------------------------------------------------------------------


def test_a_line_that_two_people_matched_proves_its_settlement(world, tmp_path: Path):
    """It names nobody: nothing is proved by it, nor its fee settled, before they say whose it is."""
    attempt = Attempt.objects.get()
    text = statement_text(LAST_OF_JANUARY, LEFT).replace(str(attempt.pk), "torn-1")
    take_in(text, world=world, folder=tmp_path)
    credited(world, tmp_path, named())
    assert prove(world).settlements == 0
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    line = StatementLine.objects.get(reference="torn-1")

    proposal = approved_match(world, proposed_match(world, [line], [attempt]))

    assert (proposal.net, prove(world).settlements) == (Decimal("0.00"), 1)
    world.clock.forward(days=31)
    close_periods(clock=world.clock, ages=world.ages)
    fee = SettlementLine.objects.get(statement_line=line)
    assert (fee.kind, fee.amount, fee.attempt_id) == ("fee", Decimal("-0.88"), attempt.pk)


def test_a_split_capture_is_proved_by_all_its_lines(world, tmp_path: Path):
    """Both sit in one payout that landed; together they are the capture."""
    attempt = Attempt.objects.get()
    world.clock.forward(days=-3)
    at = world.clock.business_now()
    halves = [
        Capture("torn-1", "sbx_1", at, Decimal("10.00")),
        Capture("torn-2", "sbx_2", at, Decimal("9.99")),
    ]
    world.clock.forward(days=3)
    text = render(account=LANE, captures=halves, first=LAST_OF_JANUARY, last=LEFT)
    take_in(text, world=world, folder=tmp_path)
    credited(world, tmp_path, named(str(sum(h.amount - fee_of(h.amount) for h in halves))))
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    lines = list(StatementLine.objects.filter(reference__startswith="torn-").order_by("pk"))
    assert prove(world).settlements == 0

    matched = approved_match(world, proposed_match(world, lines, [attempt]))
    assert prove(world).settlements == 1

    # Of a match of which a line changed nothing is proved: proved anew it would not be.
    edit("UPDATE settlements_settlement SET proved_at = NULL")
    edit("UPDATE settlements_matchedline SET gross = 1 WHERE proposal_id = %s", matched.pk)
    ProofMark.objects.create(settlement=Settlement.objects.get())
    assert prove(world).settlements == 0


# --- What the bank takes back, and what comes in another order -------------------------------------------


def test_a_credit_that_the_bank_takes_back_is_named(world, tmp_path: Path):
    """Landed and reversed: the money is gone, and a settlement closed later is not proved by it."""
    stated(world, tmp_path)
    credited(world, tmp_path, named())
    prove(world)
    bank_take_in(
        [Credit(f"-{NET}", date(2026, 2, 9), NAME, is_reversal=True)],
        world=world,
        folder=tmp_path,
        first=date(2026, 2, 9),
        last=date(2026, 2, 9),
        opening=str(NET),
    )
    prove(world)

    ((code, said),) = found(world)
    assert (code, "2 times: 0.00 instead of 19.11" in said) == ("duplicate", True), said

    world.clock.forward(days=27)
    close_periods(clock=world.clock, ages=world.ages)
    assert prove(world).settlements == 0


def test_lines_that_come_after_their_payout_landed_prove_it_too(world, tmp_path: Path):
    """The first file of a lane is of the day it was paid out; the days before are sent later."""
    take_in(statement_text(LEFT), world=world, folder=tmp_path, name="2.csv")
    credited(world, tmp_path, named())
    assert prove(world).payouts == 1
    assert not ProofMark.objects.exists()

    before = statement_text(LAST_OF_JANUARY, date(2026, 2, 1))
    take_in(before, world=world, folder=tmp_path, name="1.csv")

    assert prove(world).settlements == 1


def test_a_payout_of_nothing_lands_without_a_credit(world, tmp_path: Path):
    """What was captured went back the same day: no bank shows 0.00, and none need."""
    text = statement_text(LAST_OF_JANUARY, LEFT)
    row = next(row for row in text.splitlines() if ",charge," in row)
    back = f"x-1,refund,,,{row.split(',')[4]},-{NET},0.00,-{NET},USD,{NAME}"
    text = text.replace(row, f"{row}\n{back}")
    lines = [
        line.replace(f"-{NET},0.00,-{NET}", "0.00,0.00,0.00") if ",payout," in line else line
        for line in text.splitlines()
    ]
    take_in("\n".join(lines) + "\n", world=world, folder=tmp_path)
    credited(world, tmp_path)

    proved = prove(world)

    payout = Payout.objects.get()
    assert (payout.net, payout.paid, payout.landed_on) == (Decimal("0.00"), Decimal("0.00"), LEFT)
    assert (proved.payouts, proved.settlements) == (1, 1)
    assert found(world) == []


def test_a_bank_whose_statements_stopped_is_named(world, tmp_path: Path):
    """Nothing can be missing in a statement that never comes, so its silence is named."""
    stated(world, tmp_path)
    bank_take_in([], world=world, folder=tmp_path, first=LEFT, last=date(2026, 2, 3))
    world.clock.forward(days=9)
    assert found(world) == []

    world.clock.forward(days=2)

    ((code, said),) = found(world)
    assert (code, "statements end on 2026-02-03" in said) == ("missing", True), said
    assert "1 payout of 19.11 USD" in said
