"""What the reader of a running stack sees."""

import os
from pathlib import Path
from typing import TextIO

LOG_BYTES_KEPT = 50_000_000
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Screen:
    """The terminal: our own lines, and new log lines behind the name of who wrote them."""

    def __init__(self, *, names: list[str], out: TextIO) -> None:
        self.out = out
        self.width = max((len(name) for name in names), default=0)
        self.coloured = out.isatty() and "NO_COLOR" not in os.environ
        self.colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
        self.places: dict[str, int] = {}

    def say(self, text: str) -> None:
        """One line of the supervisor's own."""
        self.print(f"\033[1mstack\033[0m  {text}" if self.coloured else f"stack  {text}")

    def print(self, text: str) -> None:
        if text:
            self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        try:
            self.out.write(text)
            self.out.flush()
        except (
            OSError
        ):  # the reader closed the terminal or the pipe; the stack goes on, or is told to stop
            return

    def follow(self, name: str, log: Path | None, *, show: bool) -> None:
        """Show the complete lines that are new in a log; a log beyond 50 MB starts over."""
        if log is None or not log.exists():
            return
        size = log.stat().st_size
        place = self.places.get(name, 0)
        if size == place:
            return
        with log.open("rb") as file:
            file.seek(place)
            fresh = file.read()
        complete = fresh.rpartition(b"\n")[0]
        if complete:
            self.places[name] = place + len(complete) + 1
            if show:
                lines = complete.decode(errors="replace").splitlines()
                self._write("".join(f"{self._prefix(name)} {line}\n" for line in lines))
        if size > LOG_BYTES_KEPT:
            os.truncate(log, 0)
            self.places[name] = 0

    def _prefix(self, name: str) -> str:
        text = f"{name:<{self.width}} |"
        return f"\033[{self.colours[name]}m{text}\033[0m" if self.coloured else text
