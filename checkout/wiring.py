"""Builds the adapters from the settings, nowhere else; edges pass them on."""

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path

from django.conf import settings

from checkout.clock import Ages, Clock
from checkout.gateways import Gateway
from checkout.gateways.sandbox import SandboxGateway


def clock() -> Clock:
    """The two clocks; the business clock follows CLOCK_FILE, where that is allowed."""
    return Clock(Path(settings.CLOCK_FILE) if settings.CLOCK_FILE else None)


def ages() -> Ages:
    """Every age and deadline, in seconds."""
    ages: Ages = settings.AGES
    return ages


@cache
def gateways() -> Mapping[str, Gateway]:
    """The processor account of each lane."""
    return {
        lane: SandboxGateway(
            url=settings.PROCESSOR_URL,
            api_key=settings.PROCESSOR_API_KEY,
            account=facts["account"],
            webhook_secret=settings.PROCESSOR_WEBHOOK_SECRET,
            minimum_age=timedelta(seconds=ages().not_found_after),
            not_found_repeats=ages().not_found_repeats,
            idempotent_for=timedelta(seconds=ages().idempotent_for),
            processor=facts["processor"],
        )
        for lane, facts in settings.LANES.items()
    }
