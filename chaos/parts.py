"""The parts of the stack that chaos breaks: what is started, with which ages, and by which links.

As `make run`, but: PostgreSQL is a primary and a standby, each door has two relays, and the service
reaches PostgreSQL, SQS, the processor and its visitors the web through fault proxies. (Kafka's clients
go where the broker says it is, past any proxy: its fault is the broker's own end.)
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from devstack import stack as devstack
from devstack.cluster import PARAMETERS
from devstack.ports import free_port
from devstack.postgres import Postgres
from devstack.proxy import Proxy
from devstack.stack import (
    Stack,
    environment,
    free_ports,
    log_of,
    manage,
    open_stack,
    own_processes,
    set_up,
)
from devstack.supervisor import Service

# Seconds; the order of R32 holds: 1 + 1.5 + 1 < 4 < 4.5 < 5.
AGES: Final[Mapping[str, str]] = {
    **devstack.DEMO_AGES,
    "AGE_VISIBILITY": "5",
    "AGE_BACKOFF": "1,1,2",
    "AGE_DATABASE_WAIT_BEFORE_CALL": "1",
    "AGE_GATEWAY_DEADLINE": "1.5",
    "AGE_DATABASE_WAIT_AFTER_CALL": "1",
    "AGE_SOFT_LIMIT": "4",
    "AGE_HARD_LIMIT": "4.5",
    "AGE_SEND_WITHIN": "2",
    "AGE_RESOLVE_AFTER": "5",
    "AGE_NOT_FOUND_AFTER": "5",
    "AGE_SWEEP_AFTER": "15",
    "AGE_SWEEP_MOST": "30",
}
NODES: Final = ("postgres-a", "postgres-b")
DOORS: Final = ("sqs", "kafka")
RELAYS: Final = {door: (f"relay-{door}-1", f"relay-{door}-2") for door in DOORS}
OWN: Final = ("web", "worker", "timetable", *RELAYS["sqs"], *RELAYS["kafka"])
ALL_PROCESSES: Final = (*NODES, "sqs", "kafka", "processor", *OWN)
SMALL_DISK: Final = "384m"
# What our own processes need before each start: what runs once. They must come up without their servers.
ONCE: Final = frozenset({"migrate", "queues", "topics"})


@dataclass(frozen=True)
class Parts:
    """One stack that is not started yet: its servers, its links, and what all its processes are told.

    `beside` is the environment of who must not be hit by a broken link: the oracle and set-up commands.
    """

    stack: Stack
    nodes: Mapping[str, Postgres]
    links: Mapping[str, Proxy]
    beside: Mapping[str, str]

    @property
    def home(self) -> Path:
        return self.stack.home

    @property
    def web_url(self) -> str:
        """Where visitors go: through the proxy."""
        return f"http://127.0.0.1:{self.links['web'].port}"


@contextmanager
def opened_parts(home: Path) -> Iterator[Parts]:
    """Take ports and start the proxies; nothing else runs yet."""
    plain = open_stack(home=home, ports=free_ports())
    nodes = {name: node(plain, name) for name in NODES}
    upstreams = {"postgres": nodes[NODES[0]].port} | {
        name: plain.ports[name] for name in ("sqs", "processor", "web")
    }
    with ExitStack() as proxies:
        links = {
            name: proxies.enter_context(Proxy(upstream=("127.0.0.1", port), port=free_port()))
            for name, port in upstreams.items()
        }
        past = past_the_links(nodes)
        yield Parts(
            stack=replace(plain, variables=past | through_the_links(nodes, links)),
            nodes=nodes,
            links=links,
            beside=environment(replace(plain, variables=past)),
        )


def node(stack: Stack, name: str) -> Postgres:
    return Postgres(
        stack.home / name / "data",
        free_port(),
        password=stack.secrets["DATABASE_PASSWORD"],
        parameters=PARAMETERS,
        log=log_of(stack, name),
    )


def past_the_links(nodes: Mapping[str, Postgres]) -> dict[str, str]:
    """PostgreSQL's addresses for who is not to be hit: both nodes; libpq finds the primary."""
    one, other = nodes.values()
    service, owner = (
        url.replace(one.address, f"{one.address},{other.address}")
        for url in (one.service_dsn(), one.dsn())
    )
    return {
        "DATABASE_URL": service,
        "DATABASE_DIRECT_URL": service,
        "DATABASE_ADMIN_URL": owner,
    }


def through_the_links(nodes: Mapping[str, Postgres], links: Mapping[str, Proxy]) -> dict[str, str]:
    """The addresses of the service's own processes."""
    one = next(iter(nodes.values()))
    database = one.service_dsn().replace(one.address, f"127.0.0.1:{links['postgres'].port}")
    return {
        "DATABASE_URL": database,
        "DATABASE_DIRECT_URL": database,
        "SQS_ENDPOINT_URL": f"http://127.0.0.1:{links['sqs'].port}",
        "PROCESSOR_URL": f"http://127.0.0.1:{links['processor'].port}",
        **{name: os.environ.get(name, value) for name, value in AGES.items()},
    }


def services(parts: Parts) -> list[Service]:
    """Everything that runs. The standby waits until it was made."""
    queue_and_topics = [s for s in devstack.servers(parts.stack) if s.name in {"sqs", "kafka"}]
    once = [replace(s, needs=needs_of(s)) for s in set_up(parts.stack)]
    own = [
        replace(s, needs=tuple(name for name in s.needs if name in ONCE))
        for s in own_processes(parts.stack)
        # Nobody asks for an export here.
        if not s.name.startswith("relay-") and s.name != "export-worker"
    ]
    return [
        *(database(parts.nodes[name], name) for name in NODES),
        *queue_and_topics,
        *once,
        *own,
        *relays(parts.stack),
    ]


def needs_of(service: Service) -> tuple[str, ...]:
    return tuple(NODES[0] if name == "postgres" else name for name in service.needs)


def database(server: Postgres, name: str) -> Service:
    def prepare() -> None:
        # Both, before either is copied into.
        for node in NODES:
            mount_small_disk(server.data_dir.parents[1] / node)
        server.prepare()

    return Service(
        name=name,
        process=server.process,
        prepare=prepare,
        answers=server.ready,
        port=("", server.port),
        held=name != NODES[0],
        tier=0,
        tries=8,
        stop_signal=signal.SIGINT,
        stop_seconds=30,
    )


def relays(stack: Stack) -> list[Service]:
    """A leader and a standby for each door; who leads is decided between them."""
    return [
        manage(
            stack,
            name,
            *("relay", door),
            needs=("migrate", "queues" if door == "sqs" else "topics"),
            once=False,
        )
        for door, names in RELAYS.items()
        for name in names
    ]


def mount_small_disk(folder: Path) -> None:
    """Give a node a file system of its own, small enough to be filled; only root can."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() == 0 and not folder.is_mount():
        options = ["-o", f"size={SMALL_DISK},mode=711"]
        subprocess.run(
            ["mount", "-t", "tmpfs", *options, "chaos", str(folder)],
            check=False,  # refused in many containers: then the scenario says so
            capture_output=True,
        )


def keep_data(home: Path) -> None:
    """Copy what is about to be unmounted: whoever looks into a failed run wants to see its rows."""
    for name in NODES:
        if (home / name).is_mount():
            shutil.copytree(home / name, home / f"{name}-kept", dirs_exist_ok=True)


def unmount_small_disks(home: Path) -> None:
    """Give back what an earlier run, or this one, mounted."""
    for name in NODES:
        if (home / name).is_mount():
            subprocess.run(["umount", "--lazy", str(home / name)], check=False, capture_output=True)
