"""Which errors mean that the database is away, and the unit of work runs again (F3, F18)."""

import psycopg
import pytest
from django.db import IntegrityError, InterfaceError, InternalError, OperationalError
from psycopg import errors

from checkout.commit import is_lost


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (errors.AdminShutdown(), True),
        (errors.CrashShutdown(), True),
        (errors.CannotConnectNow(), True),
        (errors.TooManyConnections(), True),
        (errors.ReadOnlySqlTransaction(), True),
        (errors.SerializationFailure(), True),
        (errors.DeadlockDetected(), True),
        (errors.ProtocolViolation(), True),
        (errors.ConnectionFailure(), True),
        (psycopg.OperationalError("the connection is lost"), True),
        (errors.LockNotAvailable(), False),
        (errors.QueryCanceled(), False),
        (errors.DiskFull(), False),
        (errors.UniqueViolation(), False),
        (errors.CheckViolation(), False),
        (errors.InsufficientPrivilege(), False),
        (errors.NumericValueOutOfRange(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_which_errors_mean_that_the_database_is_away(error: psycopg.Error, lost: bool) -> None:
    kinds = {
        psycopg.IntegrityError: IntegrityError,
        psycopg.InternalError: InternalError,
        psycopg.InterfaceError: InterfaceError,
        psycopg.OperationalError: OperationalError,
    }
    kind = next((kind for base, kind in kinds.items() if isinstance(error, base)), ValueError)
    wrapped = kind("from psycopg")
    wrapped.__cause__ = error

    assert is_lost(wrapped) == lost
