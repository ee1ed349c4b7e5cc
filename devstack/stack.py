"""What the local stack consists of: its addresses, secrets, environment and processes.

A part whose address stands in the environment (DATABASE_URL, SQS_ENDPOINT_URL, KAFKA_BOOTSTRAP_SERVERS,
PROCESSOR_URL) is not started: that address is used.
"""

import hashlib
import http.client
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from devstack.control import socket_path
from devstack.kafka import Kafka
from devstack.ports import free_port
from devstack.postgres import Postgres
from devstack.process import Process, python_environment
from devstack.sqs import Sqs
from devstack.supervisor import Service

PROJECT = Path(__file__).resolve().parent.parent

# All below 32768: above, the kernel gives ports to outgoing connections, and a client that retries a server
# which is down may be given that very port, connect to itself, and keep the server from coming back.
DEFAULT_PORTS = {"web": 8000, "postgres": 25432, "sqs": 29324, "kafka": 29092, "processor": 28080}
PORT_VARIABLES = {
    "web": "WEB_PORT",
    "postgres": "PG_PORT",
    "sqs": "SQS_PORT",
    "kafka": "KAFKA_PORT",
    "processor": "PROCESSOR_PORT",
}
# A part is not started when the first of these is set; the others are then taken too.
GIVEN_BY = {
    "postgres": ("DATABASE_URL", "DATABASE_DIRECT_URL"),
    "sqs": ("SQS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "kafka": ("KAFKA_BOOTSTRAP_SERVERS",),
    "processor": ("PROCESSOR_URL", "PROCESSOR_API_KEY", "PROCESSOR_WEBHOOK_SECRET"),
}
GUNICORN = (
    *("gunicorn", "--config", "python:config.gunicorn", "config.wsgi:application"),
    *("--worker-class", "gthread", "--workers", "2"),
    *("--threads", "4", "--no-control-socket"),  # its control socket would go to the home folder
)
CELERY = (
    *("celery", "-A", "config", "worker", "--concurrency", "8", "--without-gossip"),
    *("--without-mingle", "--without-heartbeat", "-Q", "checkout-payments.fifo"),
)
SECRETS = (
    "SECRET_KEY",
    "DATABASE_PASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "PROCESSOR_API_KEY",
    "PROCESSOR_WEBHOOK_SECRET",
    "STAFF_PASSWORD",
)
# The demonstration lives three billing months in three minutes, so its ages are seconds; the order of R32 holds.
DEMO_AGES = {
    "AGE_VISIBILITY": "12",
    "AGE_BACKOFF": "1,2,3",
    "AGE_DATABASE_WAIT_BEFORE_CALL": "2",
    "AGE_GATEWAY_DEADLINE": "3",
    "AGE_DATABASE_WAIT_AFTER_CALL": "2",
    "AGE_SOFT_LIMIT": "9",
    "AGE_HARD_LIMIT": "10",
    "AGE_SEND_WITHIN": "4",
    "AGE_RESOLVE_AFTER": "12",
    "AGE_RESOLVE_STEPS": "1,2,3",
    "AGE_NOT_FOUND_AFTER": "8",
    "AGE_NOT_FOUND_REPEATS": "2",
    "AGE_SWEEP_AFTER": "60",
    "AGE_SWEEP_MOST": "120",
    "AGE_ATTEMPTING_REDISPATCH": "2",
    # 15 attempts an instrument in 30 days: three months pass in as many minutes.
    "AGE_ATTEMPTS_WINDOW": "10",
    "AGE_BREAKER_WINDOW": "5",
    "AGE_BREAKER_OPEN": "3",
    "AGE_RECONCILE_EVERY": "5",
    "AGE_TIMETABLE_EVERY": "1",
    "AGE_WORKER_HEARTBEAT": "1",
    "SQS_WAIT_SECONDS": "1",
    # A relay waits this long for what a killed one may still have under way.
    "KAFKA_MESSAGE_TIMEOUT": "3",
}


@dataclass(frozen=True)
class Stack:
    """One stack: its state folder, its ports by part, its secrets by name.

    `variables` replace what would be the environment of its processes.
    """

    home: Path
    ports: Mapping[str, int]
    secrets: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)


def open_stack(*, home: Path, ports: Mapping[str, int]) -> Stack:
    """The stack of a state folder, which is made with its secrets if it is not there."""
    home.mkdir(parents=True, exist_ok=True)
    if home.stat().st_uid == os.geteuid():
        # As root, PostgreSQL's unprivileged user must pass through; it owns its own folder inside.
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    known = keep_secrets(home / "secrets.json")
    (home / "ports.json").write_text(json.dumps(dict(ports)))
    return Stack(home=home, ports=ports, secrets=known)


def state_folder(*, purpose: str = "") -> Path:
    """DEVSTACK_HOME, else one folder of the temporary folder for each clone and user."""
    if given := os.environ.get("DEVSTACK_HOME"):
        return Path(given).absolute().with_name(Path(given).name + purpose)
    name = hashlib.sha256(f"{PROJECT}:{os.geteuid()}".encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"checkout-{name}{purpose}"


def ports_of(home: Path) -> dict[str, int]:
    """The ports with which the stack of this folder was last started, else the fixed ones."""
    try:
        known: dict[str, int] = json.loads((home / "ports.json").read_text())
    except FileNotFoundError:
        return fixed_ports()
    return known


class BadPort(Exception):
    """A port variable holds something else than a port; the text names both."""


def fixed_ports() -> dict[str, int]:
    """The ports people remember, unless a variable (WEB_PORT, PG_PORT, …) says otherwise; raises BadPort."""
    return {part: port_from(PORT_VARIABLES[part], port) for part, port in DEFAULT_PORTS.items()}


def port_from(variable: str, default: int) -> int:
    """A port from the environment."""
    value = os.environ.get(variable, str(default))
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise BadPort(f"{variable} is {value!r}; it must be a port, such as {default}")
    return int(value)


def free_ports() -> dict[str, int]:
    """Ports that nobody holds, all different."""
    found: set[int] = set()
    while len(found) < len(DEFAULT_PORTS):
        found.add(free_port())
    return dict(zip(DEFAULT_PORTS, found, strict=True))


def keep_secrets(path: Path) -> dict[str, str]:
    """The secrets of a state folder, made at its first start and readable by its owner alone."""
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = {name: secrets.token_urlsafe(40) for name in SECRETS if name not in known}
    if "STAFF_PASSWORD" in missing:
        missing["STAFF_PASSWORD"] = secrets.token_urlsafe(9)  # short: people type it
    if missing:
        unfinished = path.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(known | missing, indent=1))
        unfinished.replace(path)
    return known | missing


def postgres(stack: Stack) -> Postgres:
    return Postgres(
        stack.home / "postgres",
        stack.ports["postgres"],
        password=stack.secrets["DATABASE_PASSWORD"],
        log=log_of(stack, "postgres"),
    )


def sqs(stack: Stack) -> Sqs:
    return Sqs(stack.home / "sqs", stack.ports["sqs"], log=log_of(stack, "sqs"))


def kafka(stack: Stack) -> Kafka:
    return Kafka(stack.home / "kafka", stack.ports["kafka"], log=log_of(stack, "kafka"))


def log_of(stack: Stack, name: str) -> Path:
    return stack.home / "logs" / f"{name}.log"


def given(part: str) -> bool:
    """Whether the caller gave this part's address, so that it is not started.

    Where DEVSTACK_SOCKET is set, the addresses are our own, from `python -m devstack env`.
    """
    address = GIVEN_BY[part][0] if part in GIVEN_BY else ""
    return address in os.environ and "DEVSTACK_SOCKET" not in os.environ


def environment(stack: Stack) -> dict[str, str]:
    """Every variable the project's processes read. The caller's own AGE_* and given addresses win."""
    server = postgres(stack)
    database, owner = server.service_dsn(), server.dsn()
    if given("postgres"):
        database = os.environ["DATABASE_URL"]
        owner = os.environ.get("DATABASE_ADMIN_URL", database)
    ours = {
        "ENVIRONMENT": "local",
        "SECRET_KEY": stack.secrets["SECRET_KEY"],
        "DATABASE_URL": database,
        "DATABASE_DIRECT_URL": database,
        # The owner: migrations, and the demonstration's hand that rewrites a row behind the triggers.
        "DATABASE_ADMIN_URL": owner,
        "SQS_ENDPOINT_URL": sqs(stack).address,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": stack.secrets["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": stack.secrets["AWS_SECRET_ACCESS_KEY"],
        "KAFKA_BOOTSTRAP_SERVERS": kafka(stack).address,
        "PROCESSOR_URL": f"http://127.0.0.1:{stack.ports['processor']}",
        "PROCESSOR_API_KEY": stack.secrets["PROCESSOR_API_KEY"],
        "PROCESSOR_WEBHOOK_SECRET": stack.secrets["PROCESSOR_WEBHOOK_SECRET"],
        "WEBHOOK_URL": f"{web_address(stack)}/v1/webhooks/sandbox",
        "WEB_URL": web_address(stack),
        "CLOCK_FILE": str(stack.home / "clock"),
        "EXPORTS_FOLDER": str(stack.home / "exports"),
        "STAFF_PASSWORD": stack.secrets["STAFF_PASSWORD"],
        "DEVSTACK_SOCKET": str(socket_path(stack.home)),
        **DEMO_AGES,
    }
    win = {name for part, names in GIVEN_BY.items() if given(part) for name in names} | set(
        DEMO_AGES
    )
    return (
        ours
        | {name: os.environ[name] for name in win if name in os.environ}
        | dict(stack.variables)
    )


def web_address(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.ports['web']}"


def services(
    stack: Stack, *, demonstrate: tuple[str, ...] = (), sign_ins: bool = True
) -> list[Service]:
    """All processes that are to be started; `demonstrate` is the demonstration's command, if it is wanted."""
    everything = [*servers(stack), *set_up(stack), *own_processes(stack)]
    if sign_ins:
        everything += staff(stack)
    wanted = [service for service in everything if not given(service.name)]
    if demonstrate:
        wanted.append(
            demonstration(stack, command=demonstrate, needs=tuple(s.name for s in wanted))
        )
    names = {service.name for service in wanted}
    return [
        replace(service, needs=tuple(name for name in service.needs if name in names))
        for service in wanted
    ]


def servers(stack: Stack) -> list[Service]:
    """PostgreSQL, SQS, Kafka: stopped last, in the reverse of this order."""
    database, queue, topics = postgres(stack), sqs(stack), kafka(stack)
    return [
        Service(
            name="postgres",
            process=database.process,
            prepare=database.prepare,
            answers=database.ready,
            port=port_of(stack, "postgres"),
            tier=0,
            tries=8,
            stop_signal=signal.SIGINT,
            stop_seconds=30,
        ),
        Service(
            name="sqs",
            process=queue.process,
            prepare=queue.prepare,
            answers=queue.answers,
            port=port_of(stack, "sqs"),
            tier=1,
        ),
        Service(
            name="kafka",
            process=topics.process,
            prepare=topics.prepare,
            answers=topics.answers,
            port=port_of(stack, "kafka"),
            tier=2,
        ),
    ]


def set_up(stack: Stack) -> list[Service]:
    """Queues and topics, declared anew whenever their server came up; tables once."""
    return [
        manage(stack, "queues", "create_queues", needs=("sqs",), again_after="sqs"),
        manage(stack, "topics", "kafka_topics", needs=("kafka",), again_after="kafka"),
        migration(stack),
    ]


def staff(stack: Stack) -> list[Service]:
    """The sign-ins that the greeting names."""
    return [
        sign_in(stack, "finance"),
        sign_in(stack, "analyst", "--role", "analyst"),
        sign_in(stack, "approver", "--role", "approver"),
        sign_in(stack, "operator", "--superuser"),
    ]


def sign_in(stack: Stack, name: str, *rights: str) -> Service:
    """One of them, made anew at each start: the same name, password and rights."""
    why = ("--reason", "the local stack's own")
    return manage(stack, name, "create_staff", name, *rights, *why, needs=("migrate",))


def own_processes(stack: Stack) -> list[Service]:
    """The processor's stand-in, the web and those that work behind it."""
    web, processor = stack.ports["web"], stack.ports["processor"]
    return [
        Service(
            name="processor",
            process=python(
                stack,
                "processor",
                "-m",
                "processor",
                "--port",
                str(processor),
                "--data-dir",
                str(stack.home / "processor"),
            ),
            prepare=lambda: (stack.home / "processor").mkdir(exist_ok=True),
            answers=lambda: livez(port=processor),
            port=port_of(stack, "processor"),
            tier=3,
        ),
        Service(
            name="web",
            process=python(stack, "web", "-m", *GUNICORN, "--bind", f"127.0.0.1:{web}"),
            answers=lambda: livez(port=web),
            needs=("migrate", "postgres"),
            port=port_of(stack, "web"),
            tier=4,
        ),
        Service(
            name="worker",
            process=python(stack, "worker", "-m", *CELERY),
            needs=("migrate", "postgres", "sqs", "queues"),
            tier=4,
        ),
        manage(
            stack,
            "relay-sqs",
            "relay",
            "sqs",
            needs=("migrate", "postgres", "sqs", "queues"),
            once=False,
        ),
        manage(
            stack,
            "relay-kafka",
            "relay",
            "kafka",
            needs=("migrate", "postgres", "kafka", "topics"),
            once=False,
        ),
        manage(stack, "timetable", "timetable", needs=("migrate", "postgres"), once=False),
        manage(stack, "export-worker", "export_worker", needs=("migrate", "postgres"), once=False),
    ]


def demonstration(stack: Stack, *, command: tuple[str, ...], needs: tuple[str, ...]) -> Service:
    """The demonstration, on the reader's own terminal."""
    return replace(
        manage(stack, "demonstration", needs=needs, tries=1),
        process=lambda: Process(
            [sys.executable, "manage.py", *command],
            env=full_environment(stack),
            log=None,
            cwd=PROJECT,
        ),
        foreground=True,
    )


def manage(
    stack: Stack,
    name: str,
    *words: str,
    needs: tuple[str, ...],
    once: bool = True,
    again_after: str = "",
    tries: int = 5,
) -> Service:
    """A command of manage.py as a service."""
    return Service(
        name=name,
        process=python(stack, name, "manage.py", *words),
        needs=needs,
        once=once,
        again_after=again_after,
        tier=4,
        tries=tries,
    )


def migration(stack: Stack) -> Service:
    """The tables, made by their owner; every other process signs in with the service's own login."""
    owner = environment(stack)["DATABASE_ADMIN_URL"]
    return replace(
        manage(stack, "migrate", needs=("postgres",), tries=1),
        process=lambda: Process(
            [sys.executable, "manage.py", "migrate", "--no-input"],
            env=full_environment(stack) | {"DATABASE_URL": owner},
            log=log_of(stack, "migrate"),
            cwd=PROJECT,
        ),
    )


def python(stack: Stack, name: str, *words: str) -> Callable[[], Process]:
    """This environment's Python with the stack's variables, in the project's folder."""
    return lambda: Process(
        [sys.executable, *words], env=full_environment(stack), log=log_of(stack, name), cwd=PROJECT
    )


def full_environment(stack: Stack) -> dict[str, str]:
    return python_environment() | environment(stack) | {"PYTHONUNBUFFERED": "1"}


def port_of(stack: Stack, part: str) -> tuple[str, int]:
    return PORT_VARIABLES[part], stack.ports[part]


def livez(*, port: int) -> bool:
    """Whether a web server answers /livez with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def greeting(stack: Stack) -> str:
    """Where everything is, for the terminal."""
    web = web_address(stack)
    return f"""
  API         {web}/v1/          described at {web}/v1/openapi.json
  admin       {web}/admin/       finance (reads), analyst (proposes), approver (approves), operator (all);
              password {stack.secrets["STAFF_PASSWORD"]}
  metrics     {web}/metrics
  processor   http://127.0.0.1:{stack.ports["processor"]}
  logs        {stack.home}/logs/
  a shell     eval "$(.venv/bin/python -m devstack env)"
"""
