"""Django's own backend, with a connection that does not wait for ever."""

from typing import Any

import psycopg
from django.db.backends.postgresql import base

from checkout.link import Link


class _Driver:
    """psycopg as Django asks for it, whose connections are Links."""

    connect = Link.connect

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)


class DatabaseWrapper(base.DatabaseWrapper):
    """What Django looks for under this name in the module of an engine."""

    Database: Any = _Driver()
