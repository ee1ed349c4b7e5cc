"""Attempts whose line has come and that we do not know to be captured: the resolver is asked first (R53).

What it learns marks the charge, so that the comparison after it sees a capture and no discrepancy.
"""

import logging
from collections.abc import Callable
from typing import Final, TypeAlias
from uuid import UUID

from django.db import connection

logger = logging.getLogger(__name__)

LINES_AT_ONCE: Final = 500

Resolve: TypeAlias = Callable[[UUID], object]


def resolve_first(query: str, resolve: Resolve) -> None:
    """Ask about those that `query` finds, ALL_LINES or MARKED_LINES, at most LINES_AT_ONCE of them."""
    with connection.cursor() as cursor:
        cursor.execute(query, {"limit": LINES_AT_ONCE})
        attempt_ids = [row[0] for row in cursor.fetchall()]
    for attempt_id in attempt_ids:
        try:
            resolve(attempt_id)
        except Exception:
            # The attempt stays with the resolver; the others must still be asked about.
            logger.exception("resolve failed", extra={"attempt_id": attempt_id})


ALL_LINES: Final = """
    SELECT DISTINCT a.id FROM settlements_statementline l
    JOIN settlements_statementimport f ON f.id = l.statement_id AND f.state = 'accepted'
    JOIN checkout_attempt a ON a.id = l.key AND a.outcome NOT IN ('captured', 'unapplied')
    WHERE l.type = 'charge' LIMIT %(limit)s
"""
MARKED_LINES: Final = """
    SELECT DISTINCT a.id FROM reconcile_dirty m
    JOIN settlements_statementline l ON CASE m.kind
      WHEN 'statement' THEN l.statement_id = (m.detail ->> 'statement')::bigint
      ELSE l.key = m.subject END
    JOIN settlements_statementimport f ON f.id = l.statement_id AND f.state = 'accepted'
    JOIN checkout_attempt a ON a.id = l.key AND a.outcome NOT IN ('captured', 'unapplied')
    WHERE m.kind IN ('statement', 'line') AND l.type = 'charge' LIMIT %(limit)s
"""
