"""A primary and its synchronous standby: what was acknowledged survives a killed primary (F18)."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from devstack.cluster import PARAMETERS, Cluster, Hands
from devstack.ports import free_port
from devstack.postgres import Postgres
from devstack.process import is_gone, remains, started
from devstack.proxy import Proxy
from tests.waiting import wait_for

pytestmark = pytest.mark.system


@pytest.fixture
def nodes() -> Iterator[dict[str, Postgres]]:
    home = Path(tempfile.mkdtemp(prefix="checkout-cluster-"))
    home.chmod(0o711)
    made = {
        name: Postgres(
            home / name, free_port(), password="p-w_d", fsync=False, parameters=PARAMETERS
        )
        for name in ("one", "two")
    }
    yield made
    for node in made.values():
        node.kill()
    shutil.rmtree(home)


@pytest.fixture
def link(nodes: dict[str, Postgres]) -> Iterator[Proxy]:
    """The clients' way to whichever is the primary."""
    with Proxy(upstream=("127.0.0.1", nodes["one"].port), port=free_port()) as proxy:
        yield proxy


@pytest.fixture
def cluster(nodes: dict[str, Postgres], link: Proxy) -> Cluster:
    """The first is the primary, the second its synchronous standby."""

    def lead_to(address: tuple[str, int]) -> None:
        link.upstream = address
        link.reset()

    nodes["one"].start()
    hands = Hands(start=lambda name: nodes[name].start(), end=lambda name: nodes[name].kill())
    made = Cluster(nodes, hands=hands, lead_to=lead_to)
    made.make_standby()
    return made


class Writer:
    """Inserts numbers through the link as fast as it can, and remembers which were acknowledged."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.acknowledged: list[int] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._write)

    def __enter__(self) -> "Writer":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def _write(self) -> None:
        numbers = count(1)
        while not self.stop.is_set():
            try:
                with psycopg.connect(self.dsn, connect_timeout=2, autocommit=True) as connection:
                    while not self.stop.is_set():
                        number = next(numbers)
                        connection.execute("INSERT INTO written VALUES (%s)", [number])
                        self.acknowledged.append(number)
            except psycopg.Error:
                self.stop.wait(0.02)

    def wrote_more(self) -> None:
        before = len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) > before + 20, 20, "writes acknowledged")


def test_no_acknowledged_commit_is_lost_by_promotions_under_load(
    cluster: Cluster, nodes: dict[str, Postgres], link: Proxy
) -> None:
    """F18: twice, so that the node that failed first becomes the primary again.

    And no backend of a fenced primary is left that could still commit.
    """
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE written (number int PRIMARY KEY)")
    through = nodes["one"].dsn().replace(nodes["one"].address, f"127.0.0.1:{link.port}")

    with Writer(through) as writer:
        for _ in range(2):
            writer.wrote_more()
            old = nodes[cluster.primary]
            fenced = remains(pid=old.pid, since=started(pid=old.pid))
            seconds = cluster.promote()
            assert len(fenced) > 3
            assert all(is_gone(process) for process in fenced)
            writer.wrote_more()
            cluster.make_standby()
            assert seconds < 10

    with psycopg.connect(cluster.dsn()) as connection:
        kept = {row[0] for row in connection.execute("SELECT number FROM written")}
    assert set(writer.acknowledged) <= kept
    assert cluster.primary == "one"


def test_a_commit_waits_for_the_standby(cluster: Cluster, nodes: dict[str, Postgres]) -> None:
    """Else nothing would be promised by an acknowledgement."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE written (number int PRIMARY KEY)")
    nodes["two"].kill()

    with Writer(nodes["one"].dsn()) as writer:
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            wait_for(lambda: connection.execute(waits).fetchone(), 10, "a commit that waits")
        assert writer.acknowledged == []
        nodes["two"].start()
        wait_for(lambda: writer.acknowledged, 20, "the commit acknowledged")
