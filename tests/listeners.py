"""Who hears notices, on loopback and ports of their own: a mail server and a webhook's receiver.

Both are real servers of their protocol, as small as it goes; each keeps what it heard.
"""

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class PostOffice:
    """What a mail server took. `refuses` answers every letter; `hears` is called before it says yes."""

    port: int = 0
    letters: list[Message] = field(default_factory=list)
    to: list[list[str]] = field(default_factory=list)
    refuses: str = ""
    hears: Callable[[], None] = lambda: None


class Clerk(socketserver.StreamRequestHandler):
    """One conversation of SMTP."""

    office: PostOffice

    def handle(self) -> None:
        to: list[str] = []
        self.say("220 tests")
        while line := self.rfile.readline().decode().strip():
            verb = line[:4].upper()
            if verb == "DATA":
                self.take(to)
                continue
            if verb == "RCPT":
                to.append(line.partition("<")[2].partition(">")[0])
            self.say("250 ok")

    def take(self, to: list[str]) -> None:
        if self.office.refuses:
            self.say(self.office.refuses)
            return
        self.say("354 go on")
        lines: list[bytes] = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line)
        self.office.letters.append(message_from_bytes(b"".join(lines)))
        self.office.to.append(to)
        self.office.hears()
        self.say("250 taken")

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@contextmanager
def post_office() -> Iterator[PostOffice]:
    """A mail server that takes what comes."""
    office = PostOffice()
    clerk = type("ThisClerk", (Clerk,), {"office": office})
    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), clerk)) as port:
        office.port = port
        yield office


@dataclass
class Chat:
    """What a webhook's receiver heard: bodies and headers, in order. `waits` seconds before it answers."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    waits: float = 0.0
    hears: Callable[[], None] = lambda: None

    @property
    def heard(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]

    @property
    def keys(self) -> list[str]:
        return [headers["idempotency-key"] for headers in self.headers]


@contextmanager
def chat() -> Iterator[Chat]:
    """A receiver that answers with `answers`, used up one by one, then 200."""
    heard = Chat()

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            heard.bodies.append(self.rfile.read(length))
            heard.headers.append({name.lower(): value for name, value in self.headers.items()})
            heard.hears()
            time.sleep(heard.waits)
            self.send_response(heard.answers.pop(0) if heard.answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Ear)) as port:
        heard.url = f"http://127.0.0.1:{port}/hook/T0SECRET"
        yield heard


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    server.daemon_threads = True  # type: ignore[attr-defined]
    server.block_on_close = False  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
