"""Which errors mean that the database is away, and the unit of work runs again (F3, F18, F19).

The errors are psycopg's, in the class of Django's that its own wrapper would give them.
"""

import django.db
import psycopg
import pytest
from psycopg import errors

from checkout.commit import is_away, is_lost

# As django.db.utils.DatabaseErrorWrapper goes through them: the first that fits.
KINDS = (
    *("DataError", "OperationalError", "IntegrityError", "InternalError", "ProgrammingError"),
    *("NotSupportedError", "DatabaseError", "InterfaceError", "Error"),
)
# Every SQLSTATE that psycopg knows, with its class.
STATES: dict[str, type[psycopg.Error]] = {
    kind.sqlstate: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, psycopg.Error) and kind.sqlstate
}
AWAY = {
    "08000": "connection exception",
    "08001": "the client cannot connect",
    "08003": "the connection does not exist",
    "08004": "the server rejected the connection",
    "08006": "connection failure",
    "08007": "transaction resolution unknown",
    "08P01": "how PgBouncer says that its server is gone",
    "25006": "read-only: still the old primary, or a standby",
    "25P02": "the statement after a loss",
    "25P03": "the session idled in its transaction and was ended",
    "25P04": "the transaction took too long and was ended",
    "53100": "disk full (F19)",
    "53200": "out of memory",
    "53300": "too many connections",
    "57P01": "shutting down",
    "57P02": "another backend crashed",
    "57P03": "starting up",
    "57P04": "the database was dropped, as a restore does",
    "57P05": "idle session ended",
    "58030": "the server's disk fails",
}
AGAIN = {"40001": "serialization", "40003": "completion unknown", "40P01": "deadlock"}
# Near misses, each with the reason why it is not tried again.
NOT_LOST = {
    "55P03": "somebody holds the lock and the server is well: 409 or 503 at once",
    "57014": "cancelled: it would take as long again",
    "53400": "a limit somebody configured",
    "40002": "a broken rule at commit",
    "40000": "a rollback for no named reason",
    "25001": "a programming mistake",
    "58P01": "a missing file is corruption",
    "XX000": "an internal error",
    "XX001": "corruption",
    "23505": "a broken rule",
    "23514": "a broken rule, also from a deferred trigger at COMMIT",
    "42501": "not allowed",
    "42P01": "no such table: an old schema",
    "42P05": "a prepared statement behind a pooler",
    "34000": "a cursor behind a pooler",
    "22003": "bad data",
}


def wrapped(error: psycopg.Error) -> Exception:
    kind = next(name for name in KINDS if isinstance(error, getattr(psycopg, name)))
    outer: Exception = getattr(django.db, kind)(str(error))
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize("state", sorted(STATES))
def test_a_sqlstate_is_lost_if_the_table_says_so_and_only_then(state: str) -> None:
    error = wrapped(STATES[state]("from psycopg"))

    assert is_lost(error) == (state in AWAY or state in AGAIN)
    assert is_away(error) == (state in AWAY)


def test_the_near_misses_are_states_that_exist() -> None:
    assert set(NOT_LOST) <= set(STATES)
    assert not set(NOT_LOST) & (set(AWAY) | set(AGAIN))
    assert set(AGAIN) <= set(STATES)
    # Of these psycopg knows no class: it falls back on that of the first two characters.
    assert set(AWAY) - set(STATES) <= {"08P01", "25P04"}


@pytest.mark.parametrize("state", ["08P01", "08999"])
def test_a_connection_exception_without_a_class_of_its_own_is_lost(state: str) -> None:
    error = errors.get_base_exception(state)("server conn crashed?")
    error.sqlstate = state

    assert is_lost(wrapped(error))


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("consuming input failed: server closed the connection"),
        psycopg.OperationalError("connection failed: session is read-only"),
        psycopg.OperationalError("failed to resolve host 'db'"),
        errors.ConnectionTimeout("connection timeout expired"),
        psycopg.InterfaceError("the connection is closed"),
        # A socket that died while it was written to reaches psycopg as a result without a SQLSTATE.
        psycopg.DatabaseError("could not send data to server: Broken pipe"),
    ],
    ids=lambda error: f"{type(error).__name__}: {error}",
)
def test_an_error_without_a_sqlstate_is_a_lost_connection(error: psycopg.Error) -> None:
    assert is_lost(wrapped(error))
    assert is_away(wrapped(error))


@pytest.mark.parametrize(
    "error",
    [
        psycopg.InternalError("no SQLSTATE"),
        psycopg.ProgrammingError("the query has 1 placeholder but 2 parameters were passed"),
        psycopg.DataError("PostgreSQL text fields cannot contain NUL"),
        psycopg.NotSupportedError("not over this connection"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_client_s_own_mistake_is_no_loss(error: psycopg.Error) -> None:
    assert not is_lost(wrapped(error))


@pytest.mark.parametrize(
    "error",
    [
        django.db.DatabaseError("Save with update_fields did not affect any rows."),
        django.db.transaction.TransactionManagementError("broken"),
        ValueError("mine"),
        TimeoutError("another's"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_never_came_from_the_database_is_no_loss(error: Exception) -> None:
    assert not is_lost(error)
