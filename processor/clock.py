"""The sandbox's clocks: real time, and the business time that CLOCK_FILE moves.

The file holds one number, the seconds to add to real time, and is read each time it is asked, so
that the sandbox moves together with the service it knows nothing of.
"""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What the sandbox asks of time; a simulation passes its own."""

    def real_now(self) -> datetime: ...

    def business_now(self) -> datetime: ...

    def sleep(self, seconds: float, /) -> None: ...


class FileClock:
    """Real time, and business time by the offset in `path` (no file, no offset)."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def real_now(self) -> datetime:
        """The present, aware, UTC."""
        return datetime.now(UTC)

    def business_now(self) -> datetime:
        """The present moved by the file's seconds; raises ValueError if it holds no number."""
        return self.real_now() + timedelta(seconds=self._offset())

    def sleep(self, seconds: float, /) -> None:
        """Wait real seconds."""
        time.sleep(seconds)

    def _offset(self) -> float:
        if self._path is None:
            return 0.0
        try:
            return float(self._path.read_text().strip() or 0)
        except FileNotFoundError:
            return 0.0
