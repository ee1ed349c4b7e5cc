"""Refusals that more than one address makes, as problems (R50)."""

from checkout import routing
from checkout.http import Problem


def not_served(refusal: routing.Refusal) -> Problem:
    """The rule's own words and source, so that the platform can tell the creator why."""
    return Problem(
        "country-not-served",
        f"No processor may serve {refusal.country}: {refusal.reason}",
        members={
            "country": refusal.country,
            "reason": refusal.reason,
            "source": refusal.source,
        },
    )


def wrong_field(name: str, message: str) -> Problem:
    return Problem("validation-failed", "See errors.", ((name, message),))
