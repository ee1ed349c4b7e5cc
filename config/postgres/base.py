"""Django's own backend, with a connection that does not wait for ever."""

from typing import Any, Final

import psycopg
from django.db.backends.postgresql import base

from checkout.link import Link, patience

USABLE_WITHIN: Final = 1.0


class _Driver:
    """psycopg as Django asks for it, whose connections are Links."""

    connect = Link.connect

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)


class DatabaseWrapper(base.DatabaseWrapper):
    """What Django looks for under this name in the module of an engine."""

    Database: Any = _Driver()

    def commit(self) -> None:
        """As Django's; raises Unreplicated for a commit that no standby has, whoever made it."""
        super().commit()
        if isinstance(self.connection, Link):
            self.connection.require_replicated()

    def is_usable(self) -> bool:
        """Whether a kept connection still answers; asked before and after each request and task."""
        with patience(USABLE_WITHIN):
            return super().is_usable()
