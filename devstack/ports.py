"""TCP ports of this machine: find a free one, and name who holds a taken one."""

import os
import random
import socket

import psutil

# Below the range from which the kernel picks the near end of outgoing connections (32768 on Linux),
# so that no connection takes the port between the look and the start of the server.
FIRST, LAST = 20000, 32000


class NoFreePort(Exception):
    """Two hundred random ports were all taken."""


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now; FREE_PORTS=20000-25999 says of which.

    Two that draw at once, before the servers of either listen, are given a range each.
    """
    first, last = os.environ.get("FREE_PORTS", f"{FIRST}-{LAST}").split("-")
    for _ in range(200):
        port = random.SystemRandom().randint(int(first), int(last))
        if not is_taken(port=port):
            return port
    raise NoFreePort


def is_taken(*, port: int) -> bool:
    """Whether a server could not listen on 127.0.0.1:port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def answers(*, port: int) -> bool:
    """Whether something accepts connections on 127.0.0.1:port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def who_holds(port: int) -> str:
    """The holder of a port for an error message: `pid 4711 (gunicorn config.wsgi)`; empty when it is free."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,):
            return describe(pid=connection.pid)
    return describe(pid=None) if is_taken(port=port) else ""


def describe(*, pid: int | None) -> str:
    """`pid 4711 (its command)`, as far as this user may see it."""
    if pid is None:
        return "a process of another user"
    try:
        command = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        command = "its command is not visible"
    return f"pid {pid} ({command[:100]})"
