"""The whole suite in several workers (pytest-xdist): how many, which files are begun first, and whose ports.

`make test` says `-n auto`; a run of some of the tests has no workers. A file is never divided: its tests run one
after the other in one worker, with a PostgreSQL, an SQS and a Kafka of that worker's own (tests/stack.py).
"""

import os

import pytest

from devstack import ports

# Begun first, in this order, so that the workers end together. A campaign computes all the time, and the
# tests behind it mostly wait: so one worker takes the campaigns, and the other what waits. Before all comes
# what looks at the rows that migrations made, since a test that empties every table takes them away.
FIRST = (
    "tests/integration/test_admin_roles.py",
    "tests/integration/test_simulation.py",
    "tests/system/test_demonstration.py",
    "tests/system/test_chaos.py",
    "tests/system/test_web_away.py",
    "tests/integration/test_mutants.py",
    "tests/system/test_worker.py",
    "tests/integration/test_silence.py",
    "tests/system/test_worker_database.py",
    "tests/system/test_web_left.py",
    "tests/integration/test_kills.py",
    "tests/integration/test_reconciliation_property.py",
    "tests/system/test_relay_process.py",
    "tests/system/test_devstack_supervisor.py",
    "tests/system/test_devstack_servers.py",
    "tests/system/test_admin_browser.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two where there are two cores; none, as without `-n`, where there is one. Before xdist says its own."""
    return 2 if cores() >= 2 else 0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(item.nodeid))


def rank(nodeid: str) -> int:
    file = nodeid.partition("::")[0]
    return FIRST.index(file) if file in FIRST else len(FIRST)


def processes() -> int:
    """How many processes a campaign inside the suite may use: all cores, or one beside other workers."""
    return max(1, cores() // workers())


def workers() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_ports() -> str:
    """The range from which this worker, and what it starts, draws its free ports."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return share_of_ports(int(name.removeprefix("gw")), of=workers())


def share_of_ports(number: int, *, of: int) -> str:
    """One of so many ranges: a port is free for a while after it is drawn, until its server listens."""
    share = (ports.LAST - ports.FIRST) // of
    first = ports.FIRST + number * share
    return f"{first}-{first + share - 1}"
