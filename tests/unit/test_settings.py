"""What stops a start, and with which words: environment variables, ages and the test clock."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from checkout.clock import Ages, Clock, DisorderedAges
from config import env

ROOT = Path(__file__).resolve().parents[2]


def start(**changes: str | None) -> subprocess.CompletedProcess[str]:
    """Load the settings in a process of its own, with some variables changed or taken away."""
    environment = {
        name: value for name, value in (dict(os.environ) | changes).items() if value is not None
    }
    return subprocess.run(
        [sys.executable, "-c", "import config.settings"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "variable",
    ["SECRET_KEY", "DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "PROCESSOR_URL", "PROCESSOR_API_KEY"],
)
def test_a_missing_variable_stops_the_start_with_its_name(variable: str) -> None:
    result = start(**{variable: None})

    assert result.returncode != 0
    assert variable in result.stderr.splitlines()[-1]


def test_the_test_clock_is_refused_in_production() -> None:
    """R18: nobody moves the clock by which real money is owed."""
    result = start(ENVIRONMENT="production", CLOCK_FILE="/nowhere/clock")

    assert result.returncode != 0
    assert "CLOCK_FILE" in result.stderr


def test_failpoints_are_refused_in_production() -> None:
    result = start(ENVIRONMENT="production", CLOCK_FILE=None, FAILPOINTS="relay.marked=kill")

    assert result.returncode != 0
    assert "FAILPOINTS" in result.stderr


def test_the_production_ages_keep_their_order() -> None:
    """R32: 40 + 30 + 15 s < 90 s < 120 s < 300 s."""
    ages = Ages()

    waits = ages.database_wait_before_call + ages.gateway_deadline + ages.database_wait_after_call

    assert waits < ages.soft_limit < ages.hard_limit < ages.visibility
    assert (ages.database_wait_before_call, ages.database_wait_after_call) == (40, 15)


@pytest.mark.parametrize(
    "change",
    [
        {"visibility": 120.0},
        {"hard_limit": 90.0},
        {"soft_limit": 85.0},
        {"gateway_deadline": 35.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_ages_out_of_order_stop_the_start(change: dict[str, float]) -> None:
    """R32: a worker that outlives its message's visibility charges beside its successor."""
    with pytest.raises(DisorderedAges, match="R32"):
        replace(Ages(), **change)  # type: ignore[arg-type]


def test_ages_out_of_order_stop_the_start_of_the_settings() -> None:
    result = start(AGE_VISIBILITY="100")

    assert result.returncode != 0
    assert "R32" in result.stderr


def test_the_clock_file_moves_the_business_clock_alone(tmp_path: Path) -> None:
    """R18."""
    file = tmp_path / "clock"
    clock = Clock(file)
    assert clock.business_offset().total_seconds() == 0

    file.write_text("86400", encoding="ascii")
    moment = clock.now()

    assert (moment.business - moment.real).total_seconds() == 86400


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql://u:p@db:5432/checkout", "db", "5432"),
        # A primary with a standby: libpq takes the one that accepts writes.
        ("postgresql://u:p@a:5432,b:5433/checkout", "a,b", "5432,5433"),
    ],
)
def test_a_database_address_is_read(
    monkeypatch: pytest.MonkeyPatch, url: str, host: str, port: str
) -> None:
    monkeypatch.setenv("SOME_DATABASE", url)

    database = env.env_database("SOME_DATABASE")

    assert (database["HOST"], database["PORT"], database["NAME"]) == (host, port, "checkout")


def test_a_password_with_odd_characters_is_unescaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATABASE", "postgresql://u:p%40s%2Fs@db:5432/checkout")

    assert env.env_database("SOME_DATABASE")["PASSWORD"] == "p@s/s"


@pytest.mark.parametrize("value", ["mysql://u:p@db/x", "postgresql://db:5432/", "nonsense"])
def test_a_wrong_database_address_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SOME_DATABASE", value)

    with pytest.raises(env.BadVariable, match="SOME_DATABASE") as error:
        env.env_database("SOME_DATABASE")

    assert value not in str(error.value)


def test_a_secret_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from the file\n", encoding="utf-8")
    monkeypatch.setenv("SOME_SECRET_FILE", str(file))

    assert env.env_secret("SOME_SECRET") == "from the file"


@pytest.mark.parametrize("value", ["soon", "-1", "inf", "nan"])
def test_a_length_of_time_is_a_number_of_seconds(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SOME_AGE", value)

    with pytest.raises(env.BadVariable, match="SOME_AGE"):
        env.env_seconds("SOME_AGE", 1.0)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"FINANCE_MAIL_TO": "finance@example.org", "EMAIL_HOST": None}, "EMAIL_HOST"),
        ({"FINANCE_WEBHOOK_URL": "https://chat.example/hook"}, "FINANCE_WEBHOOK_SECRET"),
        ({"FINANCE_DIGEST_AT": "half past seven"}, "FINANCE_DIGEST_AT"),
        ({"FINANCE_PAGE_USD": "a lot"}, "FINANCE_PAGE_USD"),
    ],
)
def test_what_finance_is_told_by_is_whole_or_stops_the_start(
    changes: dict[str, str | None], word: str
) -> None:
    result = start(**changes)

    assert result.returncode != 0
    assert word in result.stderr.splitlines()[-1]
    assert "chat.example" not in result.stderr


def test_a_webhook_without_tls_is_refused_in_production() -> None:
    changes = {"FINANCE_WEBHOOK_URL": "http://chat.example/hook", "FINANCE_WEBHOOK_SECRET": "s"}
    result = start(ENVIRONMENT="production", CLOCK_FILE=None, **changes)

    assert result.returncode != 0
    assert "FINANCE_WEBHOOK_URL must begin with https://" in result.stderr
