"""The timetable's jobs: each of them runs, and says what it did."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from checkout import billing
from checkout.clock import Ages
from checkout.models import Case, CaseKind, Charge, Heartbeat, IdempotencyRecord, UnitKey
from settlements.management.jobs import all_jobs, bill_due, forget_answers
from tests.factories import World, account
from tests.fakes import FakeClock

ALL = {
    *("bill_due", "open_next_rounds", "resolve", "apply_webhooks", "drain_dead_letters", "sweep"),
    *("review", "reconcile", "store_schedules", "late_statements", "watch_statements"),
    *("close_settlements", "prove_settlements", "fold_tallies", "forget_uploads", "forget_answers"),
    *("tell_finance", "carry_out_requeues", "reconcile_full"),
}


def test_every_job_of_the_design_is_on_the_timetable():
    ages = Ages()
    jobs = {job.name: job for job in all_jobs(clock=FakeClock(), ages=ages)}

    assert set(jobs) == ALL
    assert jobs["reconcile"].every == ages.reconcile_every == 15
    assert all(0 < job.every <= 60 for job in jobs.values())


def test_the_command_lists_its_jobs_and_refuses_others():
    said = StringIO()
    call_command("timetable", list=True, stdout=said)
    assert {line.split()[0] for line in said.getvalue().splitlines()} == ALL

    with pytest.raises(CommandError, match="'billing' is not a job; there are bill_due"):
        call_command("timetable", only="billing")


@pytest.mark.django_db(transaction=True)
def test_once_runs_one_job_and_leaves_its_sign_of_life(settings):
    settings.DATABASE_DIRECT_URL = (
        settings.DATABASE_DIRECT_URL.rpartition("/")[0] + f"/{connection.settings_dict['NAME']}"
    )

    for name in sorted(ALL - {"drain_dead_letters", "reconcile", "reconcile_full"}):
        call_command("timetable", once=True, only=name)

    assert Heartbeat.objects.get(name="job:sweep").detail.startswith("0 in ")
    assert Heartbeat.objects.filter(name__startswith="job:").count() == len(ALL) - 3


@pytest.mark.django_db
def test_answers_older_than_thirty_days_are_forgotten():
    """R49."""
    clock = FakeClock()
    for key, days in (("old", 31), ("young", 29)):
        IdempotencyRecord.objects.create(
            account=account(clock=clock),
            key=key,
            request_sha256="0" * 64,
            created_at=clock.real_now() - timedelta(days=days),
        )

    assert forget_answers(clock=clock, ages=Ages()) == 1

    assert [record.key for record in IdempotencyRecord.objects.all()] == ["young"]


@pytest.mark.django_db
def test_keys_of_units_are_forgotten_after_a_day():
    clock = FakeClock()
    for key, hours in (("old", 25), ("young", 23)):
        UnitKey.objects.create(key=key, at=clock.real_now() - timedelta(hours=hours))

    forget_answers(clock=clock, ages=Ages())

    assert [unit.key for unit in UnitKey.objects.all()] == ["young"]


@pytest.mark.django_db(transaction=True)
def test_a_run_off_the_calendar_bills_nothing_and_waits_for_a_person():
    world = World()
    charge = world.due_charge()
    # Behind the triggers, the terms now say that no period begins on the next billing date.
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(
            "UPDATE checkout_subscriptionterms SET anchor = anchor - 11 WHERE subscription_id = %s",
            [charge.subscription_id],
        )
        cursor.execute("SET session_replication_role = origin")
    world.clock.move_business(days=32)

    with pytest.raises(billing.OffCalendar):
        bill_due(clock=world.clock, ages=Ages())

    assert Charge.objects.count() == 1
    case = Case.objects.get(kind=CaseKind.BILL_RUN)
    assert "differ from the calendar" in case.reason
