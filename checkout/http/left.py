"""What nobody waits for any more is not begun.

A server that is slower than its clients are patient would otherwise answer only those who have left: each
of them comes again, and so it stays too slow for ever, long after its database is well.
"""

import logging
import socket
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse

from checkout.http.problems import API_PREFIX

logger = logging.getLogger(__name__)


def has_left(request: HttpRequest) -> bool:
    """Whether the client closed its connection while its request waited for a thread.

    Asks the socket that gunicorn hands over, without taking anything from it; False for any server
    that hands over none.
    """
    link: Any = request.META.get("gunicorn.socket")
    if not isinstance(link, socket.socket):
        return False
    try:
        return link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except (OSError, ValueError):
        return not _is_encrypted(link)


def _is_encrypted(link: socket.socket) -> bool:
    """An encrypted connection cannot be peeked at, which says nothing of its client."""
    return type(link) is not socket.socket


def unless_left(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """Middleware: an API request whose client has gone is dropped; it comes again with its key (R49)."""

    def answer(request: HttpRequest) -> HttpResponse:
        if request.path.startswith(API_PREFIX) and has_left(request):
            logger.info("client left", extra={"path": request.path})
            # Nobody reads it; who only closed his own half may come again.
            return HttpResponse(status=503, headers={"Retry-After": "1"})
        return get_response(request)

    return answer
