"""The REST API: each view translates, makes one call inward, and translates back."""

from checkout.api.charges import Charges
from checkout.api.checkouts import Checkout, Checkouts
from checkout.api.creators import Creators
from checkout.api.openapi import OpenApi
from checkout.api.webhooks import Webhooks

__all__ = ["Charges", "Checkout", "Checkouts", "Creators", "OpenApi", "Webhooks"]
