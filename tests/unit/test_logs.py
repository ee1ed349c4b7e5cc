"""Every log line is one JSON object with ids as fields; nothing personal gets through the last gate."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from checkout.masking import mask
from config import gunicorn
from config.logs import JsonFormatter, logging_config

CARD = "4242 4242 4242 4242"
CANARIES = ("aigerim.canary@example.org", "tok_approve_canary_4242", CARD)


def written(message: str, *values: object, error: Exception | None = None, **ids: object) -> str:
    trace = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("checkout", logging.INFO, "x.py", 1, message, values, trace)
    vars(record).update(ids)
    return JsonFormatter().format(record)


def raised(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


@pytest.mark.parametrize("canary", CANARIES)
def test_canaries_never_appear_wherever_they_are_put(canary: str) -> None:
    lines = [
        written(f"refused {canary}"),
        written("refused %s", canary),
        written("refused", detail={"row": [canary]}),
        written("refused", error=raised(f'Failing row contains ("{canary}")')),
    ]
    for line in lines:
        assert canary not in line
        assert json.loads(line)["message"]


@pytest.mark.parametrize(
    "harmless",
    [
        "6f1c2b3a-5d4e-4f60-8a7b-123456789012",
        "2026-01-31T12:00:00.123456+00:00",
        "1700000000123",
        "19.99",
        "partition 3 at 120045",
        "charge:1:2",
    ],
)
def test_ids_times_and_amounts_stay_readable(harmless: str) -> None:
    assert mask(harmless) == harmless


def test_a_line_is_one_json_object_with_its_ids_as_fields() -> None:
    line = written("captured\nby %s", "attempt", charge_id="c-1", exc_line="a\nb")

    assert "\n" not in line
    facts = json.loads(line)
    assert facts["charge_id"] == "c-1"
    assert facts["level"] == "info"
    assert facts["message"] == "captured\nby attempt"


def test_statements_with_their_values_are_not_logged_at_any_level() -> None:
    """At DEBUG django.db.backends would log names and e-mail addresses."""
    assert logging_config("DEBUG")["loggers"]["django.db.backends"] == {"level": "INFO"}


def test_gunicorn_logs_through_our_handler() -> None:
    config: dict[str, Any] = gunicorn.logconfig_dict
    for name in ("gunicorn.error", "gunicorn.access"):
        assert config["loggers"][name] == {"handlers": [], "propagate": True}
    assert config["handlers"]["stderr"]["formatter"] == "json"


def test_no_log_call_names_a_personal_field() -> None:
    """What is logged is chosen where it is logged: ids, never names, addresses or tokens."""
    personal = re.compile(r'"(?:e?mail|token|country|ip|phone|card)"\s*:')
    root = Path(__file__).resolve().parents[2]
    for source in [*root.glob("checkout/**/*.py"), *root.glob("settlements/**/*.py")]:
        for call in re.findall(r"extra=\{[^}]*\}", source.read_text("utf-8")):
            assert not personal.search(call), f"{source.name}: {call}"
