"""`load_plans`, `load_routing_rules`, `load_creators`: all or nothing, and safe twice."""

import json
from io import StringIO
from pathlib import Path
from threading import Barrier, Thread
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from checkout.models import Account, Creator, OutboxMessage, Plan, RoutingRule

DEMO = Path("demo")
CREATORS = "external_id,name,email,country,time_zone,plan,token"
RULES = "country,lane,valid_from,valid_to,reason,source,source_date"


def load(command: str, path: Path | str, **options: object) -> dict[str, int]:
    out = StringIO()
    call_command(command, str(path), json=True, reason="a test", stdout=out, **options)
    counts: dict[str, int] = json.loads(out.getvalue())
    return counts


def file_of(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.fixture
def account(db: None) -> Account:
    call_command(
        "create_account", "demonstration", reason="a test", stdout=StringIO(), stderr=StringIO()
    )
    return Account.objects.get(name="demonstration")


@pytest.fixture
def ready(account: Account) -> Account:
    """The demonstration's plans and rules are there."""
    load("load_plans", DEMO / "plans.csv")
    load("load_routing_rules", DEMO / "routing_rules.csv")
    return account


def test_the_demonstration_loads_and_loads_again(ready):
    first = load("load_creators", DEMO / "creators.csv")
    again = load("load_creators", DEMO / "creators.csv")

    assert first == {"added": 500, "already_there": 0}
    assert again == {"added": 0, "already_there": 500}
    assert Creator.objects.values("country").distinct().count() >= 20
    assert load("load_plans", DEMO / "plans.csv") == {"added": 0, "already_there": 4}
    assert load("load_routing_rules", DEMO / "routing_rules.csv")["added"] == 0


def test_every_loaded_creator_is_announced_once_with_its_first_sequence_number(ready):
    """R44."""
    load("load_creators", DEMO / "creators.csv")
    load("load_creators", DEMO / "creators.csv")

    announced = OutboxMessage.objects.filter(type="creator.created")
    assert announced.count() == announced.filter(event_seq=1).count() == 500
    assert Creator.objects.filter(event_seq=1).count() == 500


def test_bad_rows_are_refused_together_and_nothing_is_half_loaded(ready, tmp_path):
    path = file_of(
        tmp_path,
        CREATORS,
        "c-1,Anna,anna@example.com,KZ,Asia/Almaty,monthly,tok_approve_1",
        "c-2,Bob,not-an-address,KZ,Almaty,monthly,tok_approve_2",
        "c-3,Carla,carla@example.com,kz,UTC,monthly,4242424242424242",
    )

    with pytest.raises(CommandError) as refused:
        load("load_creators", path)

    told = str(refused.value)
    for part in ("line 3, email", "line 3, time_zone", "line 4, country", "line 4, token"):
        assert part in told
    assert "Nothing was loaded" in told
    assert "4242" not in told
    assert not Creator.objects.exists()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("c-1,Anna,anna@example.com,KZ,UTC,daily,t", "line 3, plan: 'daily' is not a plan"),
        (
            "c-1,Anna,anna@example.com,FR,UTC,monthly,t",
            "line 3, country: no processor may serve FR",
        ),
        (
            "c-1,Anna,anna@example.com,IR,UTC,monthly,t",
            "no processor may serve IR: Comprehensively sanctioned",
        ),
        ("c-0,Anna,anna@example.com,KZ,UTC,monthly,t", "line 3, external_id: stands in line 2"),
    ],
)
def test_what_only_the_database_knows_is_refused_by_line(ready, tmp_path, row, told):
    path = file_of(tmp_path, CREATORS, "c-0,Zoe,zoe@example.com,KZ,UTC,monthly,t", row)

    with pytest.raises(CommandError) as refused:
        load("load_creators", path)

    assert told in str(refused.value)
    assert not Creator.objects.exists()


def test_a_creator_with_other_facts_is_refused_and_keeps_his_own(ready, tmp_path):
    head = "external_id,name,email,country,time_zone"
    load("load_creators", file_of(tmp_path, head, "c-1,Anna,anna@example.com,KZ,UTC"))

    with pytest.raises(CommandError, match="line 2, country: is PK here and KZ in the database"):
        load(
            "load_creators",
            file_of(
                tmp_path, head, "c-1,Anna,anna@example.com,PK,UTC", "c-2,Bo,b@example.com,PK,UTC"
            ),
        )

    assert [(c.external_id, c.country) for c in Creator.objects.all()] == [("c-1", "KZ")]


def test_a_creator_that_meets_another_row_of_its_name_is_no_database_error(ready, tmp_path):
    """Of two loads at once, one may meet the other's row in the index of names before that of ids."""
    head = "external_id,name,email,country,time_zone"
    path = file_of(tmp_path, head, "c-1,Anna,anna@example.com,KZ,UTC")
    load("load_creators", path)
    Creator.objects.update(id=uuid4())

    with pytest.raises(CommandError, match=r"line 2, id: is .* here and .* in the database"):
        load("load_creators", path)


def test_a_new_price_is_a_new_plan(ready, tmp_path):
    """R7."""
    path = file_of(
        tmp_path, "code,name,price,interval,interval_count", "monthly,Monthly,18.99,month,1"
    )

    with pytest.raises(CommandError, match=r"line 2, price: is 18\.99 here and 19\.99"):
        load("load_plans", path)

    assert str(Plan.objects.get(code="monthly").price) == "19.99"


@pytest.mark.parametrize(
    ("valid_from", "valid_to", "told"),
    [
        ("2024-01-01", "2024-02-01", "valid_to: is 2024-02-01 here and None"),
        ("2025-06-01", "", "overlaps the rule of KZ from 2024-01-01"),
        ("2020-01-01", "2024-01-02", "overlaps the rule of KZ from 2024-01-01"),
    ],
)
def test_a_rule_never_changes_or_overlaps_another(ready, tmp_path, valid_from, valid_to, told):
    row = ",".join(["KZ", "cis", valid_from, valid_to, "r", "s", "2026-01-01"])

    with pytest.raises(CommandError) as refused:
        load("load_routing_rules", file_of(tmp_path, RULES, row))

    assert told in str(refused.value)
    assert RoutingRule.objects.filter(country="KZ").count() == 1


def test_two_rules_of_a_country_may_touch(ready, tmp_path):
    path = file_of(
        tmp_path,
        RULES,
        "FR,europe,2024-01-01,2025-01-01,r,s,2026-01-01",
        "FR,,2025-01-01,,refused from here on,s,2026-01-01",
    )

    assert load("load_routing_rules", path)["added"] == 2


def test_without_an_account_the_command_says_which_there_are(db):
    with pytest.raises(CommandError, match="name the account with --account; there are: none yet"):
        load("load_creators", DEMO / "creators.csv")


@pytest.mark.django_db(transaction=True)
def test_two_loads_at_once_add_each_creator_once():
    call_command(
        "create_account", "demonstration", reason="a test", stdout=StringIO(), stderr=StringIO()
    )
    load("load_plans", DEMO / "plans.csv")
    load("load_routing_rules", DEMO / "routing_rules.csv")
    start, counts = Barrier(2), []

    def race() -> None:
        try:
            start.wait()
            counts.append(load("load_creators", DEMO / "creators.csv"))
        finally:
            connection.close()

    threads = [Thread(target=race) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(count["added"] for count in counts) == [0, 500]
    assert OutboxMessage.objects.filter(type="creator.created").count() == 500
