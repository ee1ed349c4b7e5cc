"""A row behind every page of the admin, made by the use cases."""

import shutil
from datetime import date, time
from decimal import Decimal
from io import StringIO
from pathlib import Path
from uuid import UUID, uuid4

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import transaction

from checkout import billing, requeues, rescue
from checkout.gateways import Approved, DeclineClass, Declined
from checkout.messages import DeadLetter
from checkout.models import (
    ApiKey,
    Attempt,
    AttemptOutcome,
    Charge,
    ChargeState,
    Heartbeat,
    WebhookDelivery,
)
from settlements import books, payouts, reconciliation, resolving
from settlements.arrivals import look_at_folder
from settlements.closing import close_periods
from settlements.expectations import agree_bank_terms
from settlements.exports import runs
from settlements.exports.runs import Made
from settlements.formats.source import Bounds
from settlements.models import (
    BooksClose,
    Discrepancy,
    ExportForm,
    ExportWhat,
    Notice,
    NoticeDelivery,
    NoticeKind,
    Proposal,
    RouteSchedule,
    StatementLine,
    StatementTerms,
    Way,
    WayName,
)
from settlements.settling import store_default_schedules
from settlements.statements import agree_fees
from tests.factories import LANE, World, account, fresh
from tests.factories_matches import doubtful, proposed_match
from tests.factories_roles import user_of
from tests.factories_settlements import statement_text, take_in
from tests.situations import drain, failed_then_retry, letter

FILES = Path(__file__).parent / "files" / "statements"
BANK_STATEMENT = FILES / "mock-bank-day-1.camt.053.001.08.xml"


def exhausted(world: World, price: str = "19.99") -> Charge:
    world.gateway.answers = [Declined(DeclineClass.FUNDS, "insufficient_funds")]
    charge = world.due_charge(price=price)
    world.receive(charge)
    assert fresh(charge).state == ChargeState.EXHAUSTED
    return charge


def one_of_nearly_everything(world: World, folder: Path) -> None:
    now = world.clock.now()
    world.gateway.answers = [
        lambda request: Approved(request.amount - Decimal("0.03"), "USD", "short")
    ]
    world.receive(world.due_charge())
    exhausted(world)
    with transaction.atomic():
        requeues.propose(
            choice=requeues.Choice(lane=LANE),
            by="olga",
            reason="the issuers answer again",
            limit=requeues.Limit(count=100, usd=Decimal("5000.00")),
            now=now,
            ages=world.ages,
        )
    call_command("pause", LANE, "--reason", "maintenance", stdout=StringIO())
    ApiKey.issue(account=account(clock=world.clock), label="frontend", now=now.real)
    rescue.keep_unreadable(subject="m-1", body="{", reason="no JSON", now=now)
    Heartbeat.objects.create(name="worker", beat_at=now.real)
    WebhookDelivery.objects.create(
        processor="sandbox", event_id="e-1", body="{}", received_at=now.real
    )
    store_default_schedules(now=now)
    call_command(
        "load_holidays", "us-fed", "--years", "2026", "--reason", "a year", stdout=StringIO()
    )
    StatementTerms.objects.create(lane="mena", due_time=time(6, 0))
    a_bank_statement_arrives(world, folder / "watched")
    agree_bank_terms(
        account="0012345",
        from_day=date(2026, 1, 30),
        calendar="us-fed",
        time_zone="UTC",
        due_days=1,
        due_time=time(9, 0),
    )
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    with transaction.atomic():
        resolving.propose(
            discrepancy_ids=[Discrepancy.objects.get(code="under_charge").pk],
            way=Way.CORRECTED,
            by="ann",
            reason="the network kept it",
            now=world.clock.now(),
        )
    attempt = Attempt.objects.get(outcome=AttemptOutcome.CAPTURED)
    text = statement_text(date(2026, 1, 31)).replace(str(attempt.pk), "torn-1")
    take_in(text, world=world, folder=folder)
    world.clock.forward(days=1)
    close_periods(clock=world.clock, ages=world.ages)
    payouts.prove(clock=world.clock, ages=world.ages)
    world.clock.forward(seconds=26 * 3600)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    with transaction.atomic():
        proposed_match(world, [StatementLine.objects.get(reference="torn-1")], [attempt])
        books.propose_close(
            day=now.business.date(),
            reasons=dict.fromkeys(books.KINDS, "looked at"),
            by="ann",
            now=world.clock.now(),
        )
        runs.ask(
            what=ExportWhat.CHARGES,
            form=ExportForm.CSV,
            query="",
            words="everything",
            by="ann",
            reason="for the auditors",
            now=now,
        )
    notice = Notice.objects.create(
        id=uuid4(), kind=NoticeKind.FILES, noticed_at=now.real, title="A file is late", text="…"
    )
    NoticeDelivery.objects.create(notice=notice, way=WayName.MAIL, next_try_at=now.real)


def a_bank_statement_arrives(world: World, folder: Path) -> None:
    (folder / "bank").mkdir(parents=True)
    shutil.copy(BANK_STATEMENT, folder / "bank")
    for _ in range(2):  # a file that does not grow between two looks is complete
        look_at_folder(
            folder=folder, processors={}, now=world.clock.now(), ages=world.ages, bounds=Bounds()
        )


def a_row_for_every_page(world: World, folder: Path) -> None:
    """Nearly everything; and what a desk shows once something was decided, or waits to be."""
    one_of_nearly_everything(world, folder)
    call_command("resume", LANE, "--reason", "maintenance is over", stdout=StringIO())
    call_command("pause", "mena", "--reason", "maintenance", stdout=StringIO())
    exhausted(world, "199.00")
    now = world.clock.now()
    agree_fees(lane=LANE, valid_from=date(2026, 3, 1), rate=Decimal("0.029"), fixed=Decimal("0.30"))
    RouteSchedule.objects.create(
        lane="mena",
        valid_from=date(2026, 3, 1),
        interval="month",
        anchor_days=[1, 15],
        delay_days=2,
        holiday_rule="following",
    )
    with transaction.atomic():
        the_day_is_locked(world)
        a_correction_is_approved(world)
        requeues.propose(
            choice=requeues.Choice(decline_class="funds"),
            by="olga",
            reason="the issuers answer again, ticket 881",
            limit=requeues.Limit(count=0, usd=Decimal("0.00")),
            now=now,
            ages=world.ages,
        )
        off = billing.Off(UUID(int=7), date(2026, 2, 28), Decimal("19.99"), None)
        billing.hold_bill_run(off=billing.OffCalendar([off], of=1), now=now)
    exhausted(world, "5.00")
    doubtful(world)
    drain(world, letter(failed_then_retry(world)), DeadLetter("letter-2", "r-2", "not ours", None))
    for by in ("-0.03", "0.01"):
        short_of(world, Decimal(by))
    world.due_charge()
    world.clock.forward(seconds=60)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    with transaction.atomic():
        resolving.propose(
            discrepancy_ids=[Discrepancy.objects.get(difference=Decimal("0.01")).pk],
            way=Way.CORRECTED,
            by="ann",
            reason="a cent too much, refunded by hand",
            now=world.clock.now(),
        )
    an_export_is_made(world)
    with transaction.atomic():
        the_month_is_locked_and_the_next_day_waits(world)
    LogEntry.objects.create(
        user=user_of(name="ann"),
        content_type=ContentType.objects.get_for_model(Charge),
        object_id=str(Charge.objects.earliest("created_at").pk),
        object_repr="a charge",
        action_flag=CHANGE,
        change_message="Opened another round: the card was topped up",
    )


def short_of(world: World, by: Decimal) -> None:
    world.gateway.answers = [
        lambda request: Approved(request.amount + by, "USD", f"short-{request.reference}")
    ]
    world.receive(world.due_charge())


def the_day_is_locked(world: World) -> None:
    """By a second person."""
    close = BooksClose.objects.get()
    books.approve_close(
        close_id=close.pk,
        seen=close.sha256,
        by="bob",
        reason="all of it looked at",
        now=world.clock.now(),
    )


def the_month_is_locked_and_the_next_day_waits(world: World) -> None:
    """January, and the first of February as one person left it."""
    now = world.clock.now()
    month = books.propose_month(month=date(2026, 1, 1), by="ann", now=now)
    books.approve_close(
        close_id=month.pk, seen=month.sha256, by="bob", reason="every day is closed", now=now
    )
    books.propose_close(
        day=date(2026, 2, 1),
        reasons=dict.fromkeys(books.KINDS, "looked at"),
        by="ann",
        now=now,
    )


def a_correction_is_approved(world: World) -> None:
    proposal = Proposal.objects.get(way=Way.CORRECTED)
    resolving.approve(
        proposal_id=proposal.pk,
        seen=proposal.sha256,
        by="bob",
        reason="the processor confirmed it",
        now=world.clock.now(),
    )


def an_export_is_made(world: World) -> None:
    """The charges, which were asked for before; another waits."""
    now = world.clock.now()
    with transaction.atomic():
        run = runs.claim(now=now)
        assert run is not None
        runs.finish(
            run=run, made=Made("1-1.csv", 314, "0" * 64, now.real, 3, Decimal("125.00")), now=now
        )
        runs.ask(
            what=ExportWhat.CHARGES,
            form=ExportForm.XLSX,
            query="state__exact=due",
            words="By state: Due",
            by="ann",
            reason="for the auditors, ticket 882",
            now=now,
        )
