"""Typed readers of environment variables; a missing one stops the start with its name."""

import os
from datetime import time
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from checkout.money import NotAnAmount, usd


class MissingVariable(Exception):
    """A variable without a default is not set."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the environment variable {name} (or {name}_FILE) is not set")


class BadVariable(Exception):
    """A variable is set to something that cannot be read."""

    def __init__(self, name: str, value: str, wanted: str) -> None:
        super().__init__(f"the environment variable {name} is {value!r}; it must be {wanted}")


def env_str(name: str, default: str | None = None) -> str:
    value = os.environ.get(name, default)
    if value is None:
        raise MissingVariable(name)
    return value


def env_secret(name: str) -> str:
    """A secret never has a default; NAME_FILE may name a file that holds it."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        return Path(path).read_text(encoding="utf-8").strip()
    value = env_str(name)
    if not value:
        raise MissingVariable(name)
    return value


def env_secret_or_none(name: str) -> str:
    """A secret that may be missing: then it is empty, and what it is for is off."""
    return env_secret(name) if os.environ.get(name) or os.environ.get(f"{name}_FILE") else ""


def env_int(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise BadVariable(name, value, "a whole number") from None


def env_seconds(name: str, default: float) -> float:
    """A length of time in seconds, zero or more."""
    value = os.environ.get(name, str(default))
    try:
        seconds = float(value)
    except ValueError:
        raise BadVariable(name, value, "a number of seconds") from None
    if not 0 <= seconds < float("inf"):
        raise BadVariable(name, value, "zero or a positive number of seconds")
    return seconds


def env_usd(name: str, default: str) -> Decimal:
    """An amount of US dollars, such as 100.00."""
    value = os.environ.get(name, default)
    try:
        return usd(value)
    except NotAnAmount:
        raise BadVariable(name, value, "an amount of USD, such as 100.00") from None


def env_time(name: str, default: str) -> time:
    """A time of day without a zone, such as 07:30."""
    value = os.environ.get(name, default)
    try:
        moment = time.fromisoformat(value)
    except ValueError:
        raise BadVariable(name, value, "a time of day, such as 07:30") from None
    if moment.tzinfo is not None:
        raise BadVariable(name, value, "a time of day without a zone, such as 07:30")
    return moment


def env_zone(name: str, default: str) -> str:
    """A time zone's name, such as Asia/Almaty."""
    value = os.environ.get(name, default)
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError):
        raise BadVariable(name, value, "the name of a time zone, such as Asia/Almaty") from None
    return value


def env_seconds_list(name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """Lengths of time in seconds, comma separated, such as `60,300,3600`."""
    value = os.environ.get(name)
    if value is None:
        return default
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise BadVariable(name, value, "seconds separated by commas") from None


def env_bool(name: str, *, default: bool) -> bool:
    value = os.environ.get(name, "true" if default else "false").lower()
    if value not in {"true", "false", "1", "0"}:
        raise BadVariable(name, value, "true or false")
    return value in {"true", "1"}


def env_list(name: str, default: str) -> list[str]:
    return [part.strip() for part in env_str(name, default).split(",") if part.strip()]


def env_choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    value = env_str(name, default)
    if value not in choices:
        raise BadVariable(name, value, "one of " + ", ".join(choices))
    return value


def env_database(name: str, default: str | None = None) -> dict[str, object]:
    """Read `postgresql://user:password@host[,host2]:port[,port2]/name` into Django's dictionary.

    Several hosts are for a primary with a standby; libpq then picks the one that takes writes.
    """
    value = env_str(name, default)
    parts = urlsplit(value)
    if parts.scheme not in {"postgres", "postgresql"} or not parts.path.strip("/"):
        raise BadVariable(name, "(hidden)", "postgresql://user:password@host:port/name")
    credentials, _, places = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    hosts = [place.rpartition(":") for place in places.split(",")]
    return {
        "ENGINE": "config.postgres",
        "NAME": unquote(parts.path.strip("/")),
        "USER": unquote(user),
        "PASSWORD": unquote(password),
        "HOST": ",".join(host for host, _, _ in hosts),
        "PORT": ",".join(port for _, _, port in hosts),
    }
