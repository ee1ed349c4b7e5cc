"""A request whose client has left is not begun."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from checkout.http import unless_left

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The client's end and the server's."""
    client, server = socket.socketpair()
    with closing(client), closing(server):
        yield client, server


def status(path: str, server: object = None) -> int:
    def begun(_: HttpRequest) -> HttpResponse:
        return HttpResponse(status=200)

    request = RequestFactory().post(path, **({"gunicorn.socket": server} if server else {}))  # type: ignore[arg-type]
    answer: HttpResponse = unless_left(begun)(request)
    return answer.status_code


def test_a_client_that_waits_is_served(ends: Ends) -> None:
    assert status("/v1/checkouts", ends[1]) == 200


def test_a_client_that_left_is_not(ends: Ends) -> None:
    client, server = ends
    client.close()

    assert status("/v1/checkouts", server) == 503


def test_a_client_that_was_cut_off_is_not() -> None:
    """A reset instead of an orderly end."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()

        with closing(server):
            assert status("/v1/checkouts", server) == 503


def test_the_next_request_on_the_connection_is_left_there(ends: Ends) -> None:
    client, server = ends
    client.send(b"GET /v1/charges HTTP/1.1")

    assert status("/v1/checkouts", server) == 200
    assert server.recv(3) == b"GET"


def test_only_the_api_is_asked_so(ends: Ends) -> None:
    """A probe by hand may close its half as soon as it has asked."""
    client, server = ends
    client.shutdown(socket.SHUT_WR)

    assert status("/livez", server) == 200


@pytest.mark.parametrize("server", [None, "not a socket"])
def test_a_server_that_hands_over_no_socket_serves(server: object) -> None:
    assert status("/v1/checkouts", server) == 200
