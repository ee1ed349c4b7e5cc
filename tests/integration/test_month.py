"""The month: two equations that add up to 0.00, and say what a cent consists of when they do not."""

import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connection
from django.db.models import Count, Sum
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checkout import rescue, tallies
from checkout.gateways import DeclineClass, Declined
from checkout.models import Attempt, Charge, ChargeState
from checkout.tallies import Tally
from settlements import payouts, reconciliation, resolving
from settlements.days import days_to_prove
from settlements.models import STANDING, BankEntry, Discrepancy, Proposal, StatementLine, Way
from settlements.month import Landed, Recovery, billed_in, landed_in, recovery_in
from settlements.roles import VIEWER
from tests.factories import LANE, World
from tests.factories_bank import Credit, bank_take_in
from tests.factories_matches import approved_match, paid, proposed_match, told
from tests.factories_roles import member, pages_at
from tests.factories_settlements import edit, statement_text, take_in
from tests.situations import (
    attempting,
    due,
    exhausted_on_a_date,
    failed_then_retry,
    in_doubt,
    pending,
    succeeded,
    voided,
    written_off,
)

pytestmark = pytest.mark.django_db

JANUARY = {"first": date(2026, 1, 1), "last": date(2026, 1, 31)}
FEBRUARY = {"first": date(2026, 2, 1), "last": date(2026, 2, 28)}
LAST_OF_JANUARY = date(2026, 1, 31)
LEFT = date(2026, 2, 2)
NAME = f"po_{LANE}_20260131"
NOTHING = Decimal("0.00")
CENT = Decimal("0.01")
# What else the processor's file of January says: type, gross, fee.
BESIDE = (
    ("refund", "-5.00", "0.10"),
    ("dispute", "-2.00", "0.00"),
    ("dispute_fee", "-1.50", "0.00"),
    ("reversal", "2.00", "0.00"),
    ("fee", "-0.20", "0.00"),
    ("adjustment", "0.03", "0.00"),
    ("reserve_hold", "-1.00", "0.00"),
    ("reserve_release", "0.40", "0.00"),
)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with pages_at(world.clock):
        yield world


def collected(world: World) -> None:
    """Two captures on the last day of January, one on the first of February, two days pass."""
    world.receive(world.due_charge())
    world.receive(world.due_charge(price="199.00"))
    world.clock.forward(days=1)
    world.receive(world.due_charge(price="5.00"))
    world.clock.forward(days=2)


def with_others(text: str, *, payout: str = NAME) -> str:
    """The file with the lines of BESIDE in it, its payout and its closing moved by them."""
    rows = text.rstrip("\n").split("\n")
    moved, added = Decimal(0), []
    for n, (type, gross, fee) in enumerate(BESIDE):
        net = Decimal(gross) - Decimal(fee)
        moved += net
        added.append(f"x-{n},{type},,,2026-01-31T13:00:00Z,{gross},{fee},{net},USD,{payout}")
    left = next((n for n, row in enumerate(rows) if ",payout," in row), None)
    if left is not None and payout:
        paid = re.findall(r"-\d+\.\d\d", rows[left])[0]
        rows[left] = rows[left].replace(paid, str(Decimal(paid) - moved))
        moved = Decimal(0)
    place = next((n for n, row in enumerate(rows) if n > 1 and ",2026-02" in row), len(rows) - 1)
    closing = re.findall(r"-?\d+\.\d\d", rows[-1])[-1]
    rows[-1] = rows[-1].replace(closing, str(Decimal(closing) + moved))
    return "\n".join([*rows[:place], *added, *rows[place:]]) + "\n"


def gathered(world: World) -> None:
    payouts.prove(clock=world.clock, ages=world.ages)


def stated(world: World, folder: Path, *, payout: str = NAME) -> Decimal:
    """One file over the month's edge, its payout on the way; what that payout says has left."""
    take_in(
        with_others(statement_text(LAST_OF_JANUARY, LEFT), payout=payout),
        world=world,
        folder=folder,
    )
    gathered(world)
    return -sum(StatementLine.objects.filter(type="payout").values_list("net", flat=True), NOTHING)


def credited(world: World, folder: Path, amount: Decimal) -> None:
    credit = Credit(str(amount), date(2026, 2, 3), end_to_end=NAME)
    bank_take_in([credit], world=world, folder=folder, first=LEFT, last=date(2026, 2, 8))
    gathered(world)


def assert_explained(landed: Landed) -> None:
    assert sum(landed.causes.values(), NOTHING) == landed.remainder


def by_type(*types: str) -> Tally:
    """Lines of January, one by one."""
    rows = StatementLine.objects.filter(
        type__in=types, statement__state="accepted", booked_at__lt="2026-02-01T00:00Z"
    )
    return Tally(len(rows), sum((row.gross for row in rows), NOTHING))


# --- Billed --------------------------------------------------------------------------------------


def test_billed_is_every_state_of_its_charges(world: World) -> None:
    for one in (due, attempting, failed_then_retry, in_doubt, pending, succeeded, voided):
        one(world)
    exhausted_on_a_date(world)
    written_off(world)

    billed = billed_in(**JANUARY)

    rows = Charge.objects.values("state").annotate(number=Count("pk"), money=Sum("amount"))
    counted = {row["state"]: Tally(row["number"], row["money"]) for row in rows}
    assert set(counted) == set(ChargeState.values)
    assert billed.states == counted
    assert billed.count == Charge.objects.count()
    assert (billed.remainder, billed_in(**FEBRUARY).count) == (NOTHING, 0)


def test_r38_a_cent_billed_too_much_is_the_remainder(world: World) -> None:
    charge = succeeded(world)
    edit("UPDATE checkout_charge SET amount = amount + 0.01 WHERE id = %s", charge.pk)
    reconciliation.reconcile(clock=world.clock, ages=world.ages)

    assert billed_in(**JANUARY).remainder == -CENT


# --- Landed --------------------------------------------------------------------------------------


def test_before_any_file_everything_captured_awaits_one(world: World) -> None:
    collected(world)

    january = landed_in(**JANUARY)

    assert january.captured == january.awaiting == Tally(2, Decimal("218.99"))
    assert (january.remainder, landed_in(**FEBRUARY).remainder) == (NOTHING, NOTHING)


@pytest.mark.parametrize("is_in_a_payout", [True, False])
@pytest.mark.parametrize("is_one_file", [True, False])
def test_figures_are_the_lines_own_and_the_remainder_is_zero(
    world: World, tmp_path: Path, is_in_a_payout: bool, is_one_file: bool
) -> None:
    """A file within the month, and one over its edge; lines that payouts hold, and lines they do not."""
    collected(world)
    payout = NAME if is_in_a_payout else ""
    if is_one_file:
        stated(world, tmp_path, payout=payout)
    else:
        text = with_others(statement_text(LAST_OF_JANUARY), payout=payout)
        take_in(text, world=world, folder=tmp_path)
        gathered(world)

    january, february = landed_in(**JANUARY), landed_in(**FEBRUARY)

    fee_lines = by_type("fee", "dispute_fee")
    borne = StatementLine.objects.filter(booked_at__lt="2026-02-01T00:00Z").aggregate(Sum("fee"))
    assert january.charges == by_type("charge") == Tally(2, Decimal("218.99"))
    assert january.refunds == by_type("refund") == Tally(1, Decimal("-5.00"))
    assert january.disputes == by_type("dispute", "reversal") == Tally(2, NOTHING)
    # Both charges, and the refund that bore a fee.
    assert january.fees == Tally(3 + fee_lines.count, fee_lines.usd - borne["fee__sum"])
    assert january.others == Tally(3, Decimal("-0.57"))
    assert (january.bank, january.after.on_the_way) == (Tally(), Tally())
    assert (january.remainder, february.remainder) == (NOTHING, NOTHING)
    assert set(january.causes.values()) == {NOTHING}
    # What one month carries on, the next carries in; the file of days to come is no part of it.
    assert february.before == january.after
    assert february.awaiting.count == (0 if is_one_file else 1)


def test_a_payout_is_on_the_way_until_the_bank_shows_it(world: World, tmp_path: Path) -> None:
    collected(world)
    paid = stated(world, tmp_path)

    left = landed_in(**FEBRUARY)
    credited(world, tmp_path, paid)
    landed = landed_in(**FEBRUARY)

    assert (left.after.on_the_way, left.bank) == (Tally(1, paid), Tally())
    assert (landed.after.on_the_way, landed.bank) == (Tally(), Tally(1, paid))
    assert landed.bank.usd == sum(BankEntry.objects.values_list("net", flat=True), NOTHING)
    assert (left.remainder, landed.remainder) == (NOTHING, NOTHING)


@pytest.mark.parametrize("by", [CENT, -CENT])
def test_r38_a_cent_at_the_bank_is_the_remainder_and_named(
    world: World, tmp_path: Path, by: Decimal
) -> None:
    collected(world)
    credited(world, tmp_path, stated(world, tmp_path) - by)

    february = landed_in(**FEBRUARY)

    assert february.remainder == by
    assert {words: usd for words, usd in february.causes.items() if usd} == {
        "payouts that left, less what the bank credited for them": by
    }
    assert landed_in(**JANUARY).remainder == NOTHING


def kept_by_the_bank(world: World, folder: Path) -> None:
    """15.00 of the payout, which two people accepted."""
    collected(world)
    credited(world, folder, stated(world, folder) - 15)
    reconciliation.reconcile(clock=world.clock, ages=world.ages)
    short = Discrepancy.objects.get(fingerprint__endswith=":bank")
    now = world.clock.now()
    proposal = resolving.propose(
        discrepancy_ids=[short.pk], way=Way.ACCEPTED, by="ann", reason="wire fee", now=now
    )
    resolving.approve(
        proposal_id=proposal.pk, seen=proposal.sha256, by="bob", reason="yes", now=now
    )
    gathered(world)


def test_what_a_bank_kept_is_a_line_of_its_own_once_two_people_accepted_it(
    world: World, tmp_path: Path
) -> None:
    kept_by_the_bank(world, tmp_path)

    february = landed_in(**FEBRUARY)

    assert (february.at_bank, february.remainder) == (Tally(1, Decimal(-15)), NOTHING)
    assert_explained(february)
    lists = [
        member(VIEWER).get("/admin/settlements/payout/", {"kept": f"2026-0{n}"}) for n in (1, 2)
    ]
    assert [len(each.context["cl"].result_list) for each in lists] == [0, 1]


def test_r38_a_cent_between_our_records_and_the_file_is_the_remainder(
    world: World, tmp_path: Path
) -> None:
    collected(world)
    stated(world, tmp_path)
    charge = Charge.objects.get(amount="199.00")
    edit(
        "UPDATE checkout_attempt SET captured_amount = captured_amount + 0.01 WHERE charge_id = %s",
        charge.pk,
    )

    january = landed_in(**JANUARY)

    assert january.remainder == CENT
    assert_explained(january)
    assert [words for words, usd in january.causes.items() if usd] == [
        "captured by our records, less what the files charge on the same days"
    ]


def test_a_day_is_covered_where_its_expectation_says_so(world: World, tmp_path: Path) -> None:
    """R53: as on home, in the lists and in the comparison, whatever days a file says it is of."""
    collected(world)
    stated(world, tmp_path)
    edit(
        "UPDATE settlements_statementexpectation SET state = 'late', statement_id = NULL"
        " WHERE day = %s",
        LAST_OF_JANUARY,
    )

    january = landed_in(**JANUARY)

    (waiting,) = days_to_prove(now=world.clock.business_now()).awaiting
    assert waiting.day == LAST_OF_JANUARY
    assert january.awaiting == waiting.captures == Tally(2, Decimal("218.99"))
    assert january.told == Tally()
    assert_explained(january)


# --- Uncollected and recovered -------------------------------------------------------------------


def test_uncollected_is_by_days_since_the_billing_date(world: World) -> None:
    exhausted_on_a_date(world)
    succeeded(world)
    voided(world)
    world.clock.forward(days=31)
    in_doubt(world)

    found = tallies.uncollected_by_age(world.clock.business_now().date())

    assert {name: tally for name, tally in found.items() if tally.count} == {
        "0-7": Tally(1, Decimal("19.99")),
        "31-60": Tally(1, Decimal("19.99")),
    }


def test_recovery_counts_a_charge_by_its_first_decline(world: World) -> None:
    """Declined for funds, then for the issuer's reasons, then collected: recovered of funds."""
    charge = exhausted_on_a_date(world)
    world.clock.forward(days=3)
    rescue.open_next_rounds(clock=world.clock, ages=world.ages)
    world.gateway.answers = [Declined(DeclineClass.ISSUER_SOFT, "try_again")]
    world.receive(charge)
    world.clock.forward(days=1)
    world.receive(charge, count=2)
    exhausted_on_a_date(world)
    world.clock.forward(days=1)

    assert Attempt.objects.filter(charge=charge, outcome="captured").exists()
    assert recovery_in(**JANUARY) == [
        Recovery("funds", Tally(1, Decimal("19.99")), Tally(1, Decimal("19.99")))
    ]
    assert recovery_in(**FEBRUARY) == [
        Recovery("funds", Tally(1, Decimal("19.99")), Tally(0, NOTHING))
    ]
    # The second decline of the first charge, in February, is in no list of first ones.
    client = member(VIEWER)
    for name, collected in (("2026-01", "1 attempt 19.99"), ("2026-02", "0 attempts 0.00")):
        (shown_class,) = client.get("/admin/month/", {"month": name}).context["recovery"]
        assert "1 attempt 19.99 USD" in shown(content(client, shown_class["link"]))
        listed = shown(content(client, shown_class["collected_link"]))
        assert f"{collected} USD, collected later filter: class of decline: funds" in listed


# --- The page ------------------------------------------------------------------------------------


def shown(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_the_page_prints_both_equations_and_every_link_opens(world: World, tmp_path: Path) -> None:
    collected(world)
    exhausted_on_a_date(world)
    credited(world, tmp_path, stated(world, tmp_path) - CENT)
    client = member(VIEWER)

    january = client.get("/admin/month/?month=2026-01").content.decode()
    february = client.get("/admin/month/?month=2026-02").content.decode()

    assert "2 charges 218.99 USD filter: billing dates 2026-01-01 to 2026-01-31" in shown(january)
    assert shown(january).count("Remainder: must be 0.00 0.00") == 2
    assert "Remainder: must be 0.00 0.01" in shown(february)
    assert "payouts that left, less what the bank credited for them 0.01" in shown(february)
    assert "funds 1 19.99 0 0.00 0.0 %" in shown(february)
    # All but the way back home, which leads to no list.
    links = set(re.findall(r'href="(/admin/[^"]+)"', inside(january) + inside(february)))
    assert len(links) > 35
    for link in links:
        assert "filter: none" not in content(client, link.replace("&amp;", "&")), link


def inside(page: str) -> str:
    """What stands between the page's head and its foot."""
    return page.partition('<div id="content"')[2].partition('<footer id="footer"')[0]


def content(client: Client, link: str) -> str:
    answer = client.get(link)
    assert answer.status_code == 200, link
    return answer.content.decode()


def in_one_file(world: World, folder: Path) -> None:
    collected(world)
    stated(world, folder)


def in_a_file_of_its_own(world: World, folder: Path) -> None:
    """January's; of February's only capture there is none yet."""
    collected(world)
    take_in(with_others(statement_text(LAST_OF_JANUARY)), world=world, folder=folder)
    gathered(world)


def differing(world: World, folder: Path) -> None:
    """Awaiting, and a discrepancy stands against one of them."""
    collected(world)
    edit("UPDATE checkout_attempt SET captured_amount = 198.99 WHERE captured_amount = 199.00")
    reconciliation.reconcile(clock=world.clock, ages=world.ages)
    assert Discrepancy.objects.filter(STANDING, charge__isnull=False).exists()


def landed(world: World, folder: Path) -> None:
    collected(world)
    credited(world, folder, stated(world, folder))


def credited_early(world: World, folder: Path) -> None:
    """The bank shows it in January, the processor's file says that it left in February."""
    landed(world, folder)
    edit("UPDATE settlements_bankentry SET value_on = '2026-01-31', booked_on = '2026-01-31'")


def corrected(world: World, folder: Path) -> None:
    """Two lines that named nobody, matched by hand: one is 0.03 short."""
    attempts = [paid(world), paid(world, "5.00")]
    for line, attempt in zip(
        told(world, folder, "19.96", "5.00", without=attempts), attempts, strict=True
    ):
        approved_match(world, proposed_match(world, [line], [attempt]))


def by_the_lanes_own_days(world: World, folder: Path) -> None:
    """At noon of the last of January it is February there."""
    in_one_file(world, folder)
    edit(
        "INSERT INTO settlements_statementterms (lane, time_zone, covers, due_days, due_time)"
        " VALUES (%s, 'Pacific/Kiritimati', 'day', 1, '06:00')",
        LANE,
    )


@pytest.mark.parametrize(
    "situation",
    [
        in_one_file,
        in_a_file_of_its_own,
        differing,
        landed,
        credited_early,
        kept_by_the_bank,
        by_the_lanes_own_days,
    ],
)
def test_r48_a_list_behind_a_figure_is_that_figure(
    world: World, tmp_path: Path, situation: Callable[[World, Path], None]
) -> None:
    """Count and USD, of each line of both equations, of three months."""
    situation(world, tmp_path)
    client, filled = member(VIEWER), 0

    for month in ("2026-01", "2026-02", "2026-03"):
        page = client.get("/admin/month/", {"month": month})
        for row in [*page.context["billed"], *page.context["landed"]]:
            printed = client.get(row.link).context["printed"]
            # What is kept back is shown without its sign; its lines are below zero.
            usd = -row.usd if "what=" in row.link else row.usd
            assert (printed.count, printed.usd) == (row.count, usd), (month, row)
            filled += row.count > 0

    assert filled > 5


def test_r48_a_corrected_difference_leads_to_its_match_alone(world: World, tmp_path: Path) -> None:
    corrected(world, tmp_path)
    client = member(VIEWER)
    assert Proposal.objects.filter(decision="approved").count() == 2

    page = client.get("/admin/month/?month=2026-01")

    (row,) = [row for row in page.context["landed"] if "corrected" in row.words]
    printed = client.get(row.link).context["printed"]
    assert (printed.count, printed.usd) == (row.count, row.usd) == (1, Decimal("-0.03"))
    none = client.get("/admin/settlements/proposal/?corrected=2026-02").context["printed"]
    assert none.count == 0


def test_r48_a_list_too_long_to_add_up_says_what_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captures, and those of them whose file is not there."""
    collected(world)
    monkeypatch.setattr("checkout.lists.MOST_COUNTED", 1)
    client = member(VIEWER)

    for more in ("", "&file=no"):
        listed = content(client, f"/admin/settlements/capture/?days=2026-01-01..2026-01-31{more}")
        assert "2 captures 218.99 USD" in shown(listed)


@pytest.mark.parametrize("month", ["", "2026-13", "January", "0000-01"])
def test_without_a_month_the_present_one_is_shown(world: World, month: str) -> None:
    page = shown(member(VIEWER).get("/admin/month/", {"month": month}).content.decode())

    assert "billing dates 2026-01-01 to 2026-01-31" in page


def test_r47_the_month_counts_no_table(world: World, tmp_path: Path) -> None:
    """Kept figures; the declines of a month are read by an index of their own."""
    collected(world)
    stated(world, tmp_path)
    client = member(VIEWER)
    with CaptureQueriesContext(connection) as captured:
        client.get("/admin/month/")
    asked = [query["sql"] for query in captured.captured_queries]
    for sql in asked:
        if "decline_class = ANY" in sql:
            # Of these days alone, each charge once.
            assert "AND booked_at >=" in sql
            continue
        assert "DISTINCT" not in sql
        if re.search(r"count\(", sql, re.IGNORECASE):
            assert not re.search(r'FROM "?checkout_(charge|attempt)"? ', sql), sql
    assert len(asked) < 30
