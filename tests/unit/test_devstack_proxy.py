"""The proxy that spoils links: what each fault looks like to a client."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from devstack.proxy import Proxy


class Echo(socketserver.StreamRequestHandler):
    """Answers every line with the server's name and the line."""

    def handle(self) -> None:
        for line in self.rfile:
            assert isinstance(self.server, Server)
            self.wfile.write(self.server.name + line)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    name = b""

    @property
    def place(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self.socket.getsockname()
        return host, port


@pytest.fixture
def server() -> Iterator[Server]:
    yield from serving(b"first:")


@pytest.fixture
def other() -> Iterator[Server]:
    yield from serving(b"other:")


def serving(name: bytes) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Echo) as server:
        server.name = name
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        yield server
        server.shutdown()


@pytest.fixture
def link(server: Server) -> Iterator[Proxy]:
    with Proxy(upstream=server.place) as proxy:
        yield proxy


def connect(link: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=2)


def exchange(connection: socket.socket, line: bytes = b"hello\n") -> bytes:
    connection.sendall(line)
    return connection.recv(100)


def talk(link: Proxy) -> bytes:
    """Connect and exchange one line."""
    with connect(link) as connection:
        return exchange(connection)


def test_it_passes_everything_and_an_orderly_end(link: Proxy) -> None:
    with connect(link) as connection:
        lines = b"x" * 99 + b"\n"
        connection.sendall(lines * 5000)
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65536), b""))

    assert received == (b"first:" + lines) * 5000


def test_latency_is_paid_once_for_each_round_trip(link: Proxy) -> None:
    link.latency = 0.2
    with connect(link) as connection:
        began = time.monotonic()

        assert exchange(connection) == b"first:hello\n"

        assert 0.2 <= time.monotonic() - began < 0.6


def test_a_black_hole_accepts_and_stays_silent_until_it_heals(link: Proxy) -> None:
    link.black_hole()
    with connect(link) as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            exchange(connection)

        link.heal()
        connection.settimeout(2)
        assert connection.recv(100) == b"first:hello\n"


def test_refuse_resets_what_stands_and_refuses_what_comes(link: Proxy) -> None:
    with connect(link) as connection:
        exchange(connection)

        link.refuse()

        with pytest.raises(ConnectionError):
            exchange(connection)
        with pytest.raises(ConnectionRefusedError):
            connect(link)
    link.heal()
    with connect(link) as connection:
        assert exchange(connection) == b"first:hello\n"


def test_reset_ends_standing_connections_alone(link: Proxy) -> None:
    with connect(link) as connection:
        exchange(connection)

        link.reset()

        with pytest.raises(ConnectionError):
            exchange(connection)
    with connect(link) as connection:
        assert exchange(connection) == b"first:hello\n"


def test_new_connections_go_to_a_new_upstream(link: Proxy, other: Server) -> None:
    with connect(link) as standing:
        exchange(standing)

        link.upstream = other.place

        assert exchange(standing) == b"first:hello\n"
        with connect(link) as connection:
            assert exchange(connection) == b"other:hello\n"


def test_an_upstream_that_is_away_looks_like_a_reset(link: Proxy, server: Server) -> None:
    server.shutdown()
    server.server_close()

    with pytest.raises(ConnectionError):  # in the connect already, or at the first word
        talk(link)
