"""POST /v1/checkouts, and GET /v1/checkouts/{id} that may wait for the next state."""

import threading
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.views import APIView

from checkout import routing, subscriptions, wiring
from checkout.api.documents import ChargeShown, CheckoutQuery, CheckoutShown, NewCheckout
from checkout.api.refusals import not_served, wrong_field
from checkout.http import (
    answered,
    as_json,
    caller,
    idempotency_key,
    idempotent,
    reading,
    sent_json,
    validated,
    validated_query,
)
from checkout.http.openapi import IDEMPOTENCY, ON_POST, WITH_KEY, answers
from checkout.models import Charge

# Nothing follows by itself in these, so that nobody waits for it.
WAITED_FOR: Final = frozenset({"open", "processing", "in_doubt"})
# A waiting request keeps its thread, and its thread keeps a connection without a transaction.
waiters: Final = threading.BoundedSemaphore(max(1, settings.WEB_THREADS // 4))
FIRST_LOOK: Final = 0.2
LONGEST_LOOK: Final = 1.0


class Checkouts(APIView):
    """Checkouts of the account."""

    @extend_schema(
        operation_id="start_checkout",
        summary="Subscribe a creator and collect the first charge",
        parameters=[*IDEMPOTENCY],
        request=NewCheckout,
        responses=answers({201: CheckoutShown}, *ON_POST, "country-not-served"),
        examples=[
            OpenApiExample(
                "monthly",
                value={
                    "creator_id": "6f6b0b0e-7f0c-5d0a-9d0e-3f0f6f1b2c3d",
                    "plan": "monthly",
                    "token": "tok_approve_0001",
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> HttpResponse:
        key = idempotency_key(request)
        asked = validated(NewCheckout, sent_json(request))
        account_id, now = caller(request).account_id, wiring.clock().now()

        def start() -> tuple[int, object]:
            charge = _start(
                account_id=account_id,
                creator_id=asked["creator_id"],
                plan_code=asked["plan"],
                token=asked["token"],
                idempotency_key=key,
                now=now,
            )
            return 201, shown(charge)

        return idempotent(request=request, key=key, now=now, work=start)


def _start(**asked: Any) -> Charge:
    """`subscriptions.start_checkout`, its refusals as problems."""
    try:
        return subscriptions.start_checkout(**asked)
    except subscriptions.UnknownCreator:
        raise wrong_field("creator_id", "this account has no such creator") from None
    except subscriptions.UnknownPlan:
        raise wrong_field("plan", "there is no such plan") from None
    except subscriptions.DeadInstrument:
        raise wrong_field("token", "this card was declined for good; use another") from None
    except routing.NoLane as error:
        raise not_served(error.refusal) from None


def shown(charge: Charge) -> dict[str, object]:
    """A checkout as the API shows it; `charge` is the subscription's first."""
    return {
        "id": charge.subscription_id,
        "creator_id": charge.creator_id,
        "plan": charge.terms.plan_id,
        **subscriptions.checkout_state(charge),
        "charge": ChargeShown(charge).data,
    }


class Checkout(APIView):
    """One checkout."""

    @extend_schema(
        operation_id="read_checkout",
        summary="Read a checkout, or wait for its next state",
        parameters=[CheckoutQuery],
        responses=answers({200: CheckoutShown}, *WITH_KEY, "not-found", "validation-failed"),
    )
    def get(self, request: Request, checkout_id: UUID) -> HttpResponse:
        wait = validated_query(CheckoutQuery, request).get("wait", 0)
        account_id = caller(request).account_id

        def look() -> dict[str, object]:
            return reading(request, lambda: shown(_first_charge(account_id, checkout_id)))

        document = look()
        if wait and document["state"] in WAITED_FOR and waiters.acquire(blocking=False):
            try:
                document = _next_state(document, look, seconds=wait)
            finally:
                waiters.release()
        return answered(as_json(document))


def _first_charge(account_id: UUID, subscription_id: UUID) -> Charge:
    charge = (
        Charge.objects.filter(subscription_id=subscription_id, creator__account_id=account_id)
        .select_related("terms")
        .order_by("period_start")
        .first()
    )
    if charge is None:
        raise NotFound
    return charge


def _next_state(
    document: dict[str, object], look: Callable[[], dict[str, object]], *, seconds: float
) -> dict[str, object]:
    """Look again, ever less often, until the state is another one or `seconds` have passed."""
    clock = wiring.clock()
    end, pause, present = clock.monotonic() + seconds, FIRST_LOOK, document["state"]
    while document["state"] == present and clock.monotonic() < end:
        clock.sleep(max(0.0, min(pause, end - clock.monotonic())))
        pause = min(pause * 1.5, LONGEST_LOOK)
        document = look()
    return document
