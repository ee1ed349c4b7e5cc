"""A crowd of charges made set-based: each billed, captured, booked, published, settled and stated.

Only for measurements and campaigns that need many: it writes the rows that the service would have
written, past its triggers. Everything agrees to the cent, but for the faults that were asked for.
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Final

from django.db import connection, transaction

from checkout.clock import Ages, Clock
from settlements.payouts import book_movements

FOLDER: Final = Path(__file__).parent / "crowd"
MONTHS: Final = 5  # charges of a creator, unless told otherwise; six at most
# Creators a transaction makes.
CHUNK: Final = 20_000


def load(
    *,
    charges: int,
    today: date,
    faults: int = 0,
    months: int = MONTHS,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Make so many charges (whole creators), with so many faults; how many charges were made.

    The last captures are of the day before `today`. Faults are in turn a line short by 0.01, no line, a
    line twice, a foreign line, a capture short by 0.03; `named_faults` has what must be named of them.
    """
    creators = -(-charges // months)
    values: dict[str, Any] = {
        "today": today,
        "charges": creators * months,
        "months": months,
        "apart": creators * months // faults if faults else 0,
    }
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE crowd_fault (fault text, creator_id uuid, charge_id uuid, attempt_id uuid,"
            " captured numeric, foreign_key uuid)"
        )
    _run("begin", values)
    for low in range(0, creators, CHUNK):
        high = min(low + CHUNK, creators)
        _run("chunk", {**values, "low": low, "high": high})
        progress((high - low) * months)
    _run("end", values)
    book_movements(clock=Clock(), ages=Ages())
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE reconcile_dirty, settlements_proofmark")
        cursor.execute("VACUUM ANALYZE" if not connection.in_atomic_block else "ANALYZE")
    return creators * months


def named_faults() -> dict[str, str]:
    """Fingerprint and difference (USD) of every discrepancy that the faults must be named as."""
    with connection.cursor() as cursor:
        cursor.execute(_NAMED)
        return {fingerprint: f"{difference:.2f}" for fingerprint, difference in cursor.fetchall()}


_NAMED: Final = """
    SELECT CASE fault WHEN 'short line' THEN 'statement:amount:' || attempt_id
             WHEN 'no line' THEN 'statement:missing:' || attempt_id
             WHEN 'line twice' THEN 'statement:duplicate:' || attempt_id
             WHEN 'foreign line' THEN 'statement:unmatched:' || l.id
             ELSE 'captured:under_charge:' || charge_id END,
           CASE fault WHEN 'short line' THEN -0.01 WHEN 'no line' THEN -captured
             WHEN 'short capture' THEN -0.03 ELSE captured END
    FROM crowd_fault f
    LEFT JOIN settlements_statementline l ON f.fault = 'foreign line' AND l.key = f.foreign_key
"""


def _run(name: str, values: dict[str, Any]) -> None:
    """One file in one transaction, past every trigger but those that fire always."""
    sql = (FOLDER / f"{name}.sql").read_text("utf-8")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        for statement in sql.split(";\n"):
            if statement.strip():
                cursor.execute(statement, values)
        cursor.execute("SET LOCAL session_replication_role = origin")
