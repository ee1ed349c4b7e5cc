"""The processor's own journal, read for a proof: what it captured, and for what."""

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any


def lines_of(text: str) -> Iterator[dict[str, Any]]:
    """The lines of `GET /v1/journal`."""
    return (json.loads(line) for line in text.splitlines() if line)


def captures_of(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[str, Decimal]]]:
    """What the processor's journal captured: charge → (reference, USD) of each capture."""
    captures: dict[str, list[tuple[str, Decimal]]] = {}
    for line in lines:
        if line["status"] == "approved":
            capture = (line["reference"], Decimal(line["captured_amount"]))
            captures.setdefault(line["charge"], []).append(capture)
    return captures
