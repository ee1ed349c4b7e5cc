"""What finance looks at and decides: the proof of a charge, discrepancies, statements, schedules.

checkout imports nothing of this; pages that hang below its own do so by address (settlements/urls.py).
"""

from settlements.admin import (
    banks,
    books,
    captures,
    discrepancies,
    exports,
    proof,
    proposals,
    records,
    schedules,
    settlements,
    statements,
    telling,
)

__all__ = [
    "banks",
    "books",
    "captures",
    "discrepancies",
    "exports",
    "proof",
    "proposals",
    "records",
    "schedules",
    "settlements",
    "statements",
    "telling",
]
