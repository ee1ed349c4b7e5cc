"""Captures, to look at by how far each is proved."""

from datetime import date

from django.db import models

from checkout.models import Attempt


class ProofState(models.TextChoices):
    """How far a capture is proved; every capture is exactly one of them."""

    # An accepted file covers its day, and nothing stands against its charge.
    PROVED = "proved"
    # Its day's file is not accepted yet.
    AWAITING = "awaiting"
    # A discrepancy about its charge stands.
    DISCREPANT = "discrepant"


class Capture(Attempt):
    """An attempt that captured money: no table of its own, a list of its own (settlements/captures.py)."""

    # Filled in for the rows of a page (settlements.captures.tell_proof): the day of its lane's own
    # calendar, whose file must show it, and how far it is proved.
    day: date | None = None
    proof: str = ""

    class Meta:
        proxy = True
