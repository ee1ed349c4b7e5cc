"""Logs as JSON, one object a line: time, level, logger, message, and the ids passed as `extra`.

Nothing personal is logged on purpose. What slips into an exception's text (a refused row, a body
that a library quotes) is masked here, in the last place every line passes: e-mail addresses, tokens
of cards, and whatever could be a card's number.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from checkout.masking import mask

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


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
