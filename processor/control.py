"""What tests and demonstrations may tell the sandbox to do, as values.

An instruction is a JSON object of any of these keys:

    {"short": {"creator": "<uuid>", "by": "0.03"}}   the next capture of that creator is short (or,
                                                     with a minus, too large); once
    {"token": {"tok_x": "soft_then_approve_2"}}      a token behaves as another; null takes it back
    {"outage": 10 | true | false}                    away for seconds, until told, or back
    {"outage_mode": "unavailable" | "drop"}          503, or the connection is closed unanswered
    {"forbidden": ["account", …]}                    403 for these accounts
    {"latency": 0.2}                                 seconds before anything is looked at
    {"hang_seconds": 60, "slow_seconds": 2}          how long silence and slowness last
    {"pending_seconds": 3, "pending_expires_seconds": 86400}
    {"idempotent_seconds": 86400}                    how long a key is remembered (real time)
    {"webhooks": "none" | "resolved" | "all"}

Instructions are journalled, so they survive a kill -9 like everything else.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

FOR_EVER = datetime.max.replace(tzinfo=UTC)
_SIGNED_AMOUNT = re.compile(r"-?(?:0|[1-9][0-9]{0,9})(?:\.[0-9]{1,2})?", re.ASCII)
_OUTAGE_MODES = ("unavailable", "drop")
_WEBHOOKS = ("none", "resolved", "all")


class IllFormed(Exception):
    """What was sent is not what this endpoint takes; the text says which field."""


@dataclass(frozen=True)
class Control:
    """The instructions in force; seconds are real, amounts USD."""

    overrides: Mapping[str, str] = field(default_factory=dict)
    shorts: Mapping[str, Decimal] = field(default_factory=dict)
    outage_until: datetime | None = None
    outage_mode: str = "unavailable"
    forbidden: frozenset[str] = frozenset()
    latency: float = 0.0
    hang_seconds: float = 60.0
    slow_seconds: float = 2.0
    pending_seconds: float = 3.0
    pending_expires_seconds: float = 86_400.0
    idempotent_seconds: float = 86_400.0
    webhooks: str = "resolved"

    def away(self, now: datetime) -> bool:
        """Whether an outage is on at `now` (real)."""
        return self.outage_until is not None and now < self.outage_until

    def without_short(self, creator: str) -> "Control":
        """The same, once the creator's short capture has happened."""
        return replace(self, shorts={k: v for k, v in self.shorts.items() if k != creator})


def changed(control: Control, instruction: Mapping[str, Any], *, at: datetime) -> Control:
    """What is in force after `instruction`, given at `at` (real); raises IllFormed."""
    for key, value in instruction.items():
        if key not in _READERS:
            raise IllFormed(f"{key}: no such instruction")
        control = _READERS[key](control, key, value, at)
    return control


def _seconds(control: Control, key: str, value: Any, _at: datetime) -> Control:
    change: dict[str, Any] = {key: _number(key, value)}
    return replace(control, **change)


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10**9:
        raise IllFormed(f"{key}: not a number of seconds")
    return float(value)


def _outage(control: Control, key: str, value: Any, at: datetime) -> Control:
    if value is False:
        return replace(control, outage_until=None)
    until = FOR_EVER if value is True else at + timedelta(seconds=_number(key, value))
    return replace(control, outage_until=until)


def _short(control: Control, key: str, value: Any, _at: datetime) -> Control:
    by = value.get("by") if isinstance(value, dict) else None
    creator = value.get("creator") if isinstance(value, dict) else None
    if not isinstance(creator, str) or not isinstance(by, str) or not _SIGNED_AMOUNT.fullmatch(by):
        raise IllFormed(f'{key}: not {{"creator": …, "by": "0.03"}}')
    return replace(control, shorts={**control.shorts, creator: Decimal(by)})


def _token(control: Control, key: str, value: Any, _at: datetime) -> Control:
    if not isinstance(value, dict) or not all(
        v is None or isinstance(v, str) for v in value.values()
    ):
        raise IllFormed(f"{key}: not an object of token to behaviour")
    overrides = {**control.overrides, **value}
    return replace(control, overrides={k: v for k, v in overrides.items() if v is not None})


def _forbidden(control: Control, key: str, value: Any, _at: datetime) -> Control:
    if not isinstance(value, list) or not all(isinstance(account, str) for account in value):
        raise IllFormed(f"{key}: not a list of accounts")
    return replace(control, forbidden=frozenset(value))


def _one_of(*words: str) -> "_Reader":
    def read(control: Control, key: str, value: Any, _at: datetime) -> Control:
        if value not in words:
            raise IllFormed(f"{key}: not one of {', '.join(words)}")
        return replace(control, **{key: value})

    return read


_Reader = Callable[[Control, str, Any, datetime], Control]
_READERS: Mapping[str, _Reader] = {
    "short": _short,
    "token": _token,
    "outage": _outage,
    "outage_mode": _one_of(*_OUTAGE_MODES),
    "forbidden": _forbidden,
    "latency": _seconds,
    "hang_seconds": _seconds,
    "slow_seconds": _seconds,
    "pending_seconds": _seconds,
    "pending_expires_seconds": _seconds,
    "idempotent_seconds": _seconds,
    "webhooks": _one_of(*_WEBHOOKS),
}
