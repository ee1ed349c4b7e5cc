"""Logs as JSON, one object a line: time, level, logger, message, and the ids passed as `extra`.

Nothing personal is logged on purpose. What slips into an exception's text (a refused row, a body
that a library quotes) is masked here, in the last place every line passes: e-mail addresses, tokens
of cards, and whatever could be a card's number.
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Final

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_EMAIL: Final = re.compile(r"[\w.+'-]{1,64}@[\w-]+(?:\.[\w-]+)+")
# The sandbox's and Stripe's tokens of cards, and API keys.
_TOKEN: Final = re.compile(r"\b(?:tok|pm|card|src|sk|rk|ck)_[A-Za-z0-9_-]+")
# 13 to 19 digits, as cards have, in groups or not; not a part of an id or of a longer number.
_DIGITS: Final = re.compile(r"(?<![\w-])(?:\d[ -]?){12,18}\d(?![\w-])")


class JsonFormatter(logging.Formatter):
    """Render a record as one JSON line; line breaks in a value are escaped by JSON itself."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({k: v for k, v in vars(record).items() if k not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return mask(json.dumps(line, default=str, ensure_ascii=False))


def mask(text: str) -> str:
    """The text without e-mail addresses, card tokens, keys and card numbers."""
    text = _EMAIL.sub("[e-mail]", text)
    text = _TOKEN.sub("[token]", text)
    return _DIGITS.sub(_unless_not_a_card, text)


def _unless_not_a_card(found: re.Match[str]) -> str:
    digits = [int(digit) for digit in found[0] if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return "[card]" if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else found[0]


def logging_config(level: str) -> dict[str, Any]:
    """What django, celery, the commands and gunicorn log through: one handler, one formatter."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "config.logs.JsonFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "botocore": {"level": "WARNING"},
            # At INFO it says the broker's address, and with it the access key's id.
            "celery.worker.consumer.connection": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
            # At DEBUG it logs every statement with its values, which are people's.
            "django.db.backends": {"level": "INFO"},
            "django.server": {"handlers": ["stderr"], "propagate": False},
        },
    }
