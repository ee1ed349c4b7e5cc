"""The control socket of a running stack: a unix socket in its state folder, one line in, one line of JSON out."""

import json
import selectors
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any


class NotRunning(Exception):
    """Nobody answers on the control socket."""


class Control:
    """The unix socket in the state folder: one line in, one line of JSON out."""

    def __init__(
        self,
        *,
        path: Path,
        answer: Callable[[list[str], socket.socket], dict[str, Any] | None],
    ) -> None:
        self.path = path
        self.answer = answer
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> "Control":
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.path.chmod(0o600)
        self.listener.listen()
        self.selector.register(self.listener, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        self.selector.close()
        self.listener.close()
        self.path.unlink(missing_ok=True)

    def wait(self, *, seconds: float) -> None:
        """Answer who asks now, or wait."""
        for _ in self.selector.select(timeout=seconds):
            connection, _peer = self.listener.accept()
            connection.settimeout(1)
            try:
                words = connection.makefile("r").readline().split()
            except OSError:
                connection.close()
                continue
            reply = self.answer(words, connection)
            if reply is not None:
                send(connection, reply)


def send(connection: socket.socket, reply: dict[str, Any]) -> None:
    """Answer and hang up; who asked may have gone."""
    try:
        connection.sendall(json.dumps(reply).encode() + b"\n")
    except OSError:
        return
    finally:
        connection.close()


def socket_path(home: Path) -> Path:
    """The control socket of a state folder."""
    return home / "control"


def ask(socket_path: Path | str, command: str, *, seconds: float = 60) -> dict[str, Any]:
    """Send one command (`status`, `down`, `kill NAME`, `end NAME`, `stop NAME`, `start NAME VARIABLE=value`,
    `pause NAME SECONDS`) and return the answer.

    `kill`, `end`, `stop` and `pause` answer when the process has ended. A refused command is {"error": why}. Raises NotRunning.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(socket_path))
            connection.sendall(f"{command}\n".encode())
            line = connection.makefile("r").readline()
        except (FileNotFoundError, ConnectionError) as gone:
            raise NotRunning(f"no stack answers at {socket_path}") from gone
    if not line:
        raise NotRunning(f"the stack at {socket_path} ended without an answer")
    answer: dict[str, Any] = json.loads(line)
    return answer
