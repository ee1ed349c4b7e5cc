"""The servers under the tests: addresses for the settings first, the servers when a test asks for them.

Loaded with `-p tests.stack`, before pytest-django reads the settings, so that these see free ports and this
run's secrets. Nothing is started until a test needs it: `postgres` with the first test that has the database,
`sqs` and `kafka` by name. TEST_DATABASE_URL, TEST_SQS_ENDPOINT_URL and TEST_KAFKA_BOOTSTRAP_SERVERS run the
same tests against real parts (conformance); then the fixture of that part is None.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from devstack.kafka import Kafka
from devstack.ports import free_port
from devstack.postgres import Postgres
from devstack.sqs import Sqs
from tests.workers import own_ports

os.environ["FREE_PORTS"] = own_ports()
# Short and in the temporary folder: an unprivileged user must reach it, and unix sockets have short names.
HOME = Path(tempfile.gettempdir()) / f"checkout-tests-{os.getpid()}"

POSTGRES = Postgres(HOME / "postgres", free_port(), password="tests", fsync=False)
SQS = Sqs(HOME / "sqs", free_port())
KAFKA = Kafka(HOME / "kafka", free_port())

S = TypeVar("S", Postgres, Sqs, Kafka)


def set_environment() -> None:
    """What config/settings.py asks for; nothing of the caller's own shell gets through."""
    database = os.environ.get("TEST_DATABASE_URL", POSTGRES.dsn("checkout"))
    os.environ.update(
        {
            "ENVIRONMENT": "test",
            "SECRET_KEY": "only-for-tests",
            "DATABASE_URL": database,
            "DATABASE_DIRECT_URL": database,
            "SQS_ENDPOINT_URL": os.environ.get("TEST_SQS_ENDPOINT_URL", SQS.address),
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "KAFKA_BOOTSTRAP_SERVERS": os.environ.get(
                "TEST_KAFKA_BOOTSTRAP_SERVERS", KAFKA.address
            ),
            "PROCESSOR_URL": f"http://127.0.0.1:{free_port()}",
            "PROCESSOR_API_KEY": "processor-key-for-tests",
            "PROCESSOR_WEBHOOK_SECRET": "webhook-secret-for-tests",
            "CLOCK_FILE": str(HOME / "clock"),
        }
    )
    for name in [name for name in os.environ if name.startswith("AGE_")]:
        del os.environ[name]


set_environment()


def pytest_configure() -> None:
    remove_what_was_left()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(mode=0o711)


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
    remove_what_was_left()


def remove_what_was_left() -> None:
    """The folders of runs and workers that were killed; their servers have died with them."""
    for old in HOME.parent.glob("checkout-tests-*"):
        if not psutil.pid_exists(int(old.name.rpartition("-")[2])):
            shutil.rmtree(old, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> None:
    """Start PostgreSQL right before pytest-django makes its database there, and only then."""
    if fixturedef.argname == "django_db_modify_db_settings":
        request.getfixturevalue("postgres")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres | None]:
    """PostgreSQL behind settings.DATABASES."""
    yield from running(POSTGRES, given="TEST_DATABASE_URL")


@pytest.fixture(scope="session")
def sqs() -> Iterator[Sqs | None]:
    """SQS behind settings.SQS_ENDPOINT_URL, without queues. A test that stops it starts it again."""
    yield from running(SQS, given="TEST_SQS_ENDPOINT_URL")


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka | None]:
    """Kafka behind settings.KAFKA_BOOTSTRAP_SERVERS, without topics. A test that stops it starts it again."""
    yield from running(KAFKA, given="TEST_KAFKA_BOOTSTRAP_SERVERS")


def running(server: S, *, given: str) -> Iterator[S | None]:
    """The server for the length of the session, unless an address was given."""
    if given in os.environ:
        yield None
        return
    server.start()
    yield server
    server.kill()
