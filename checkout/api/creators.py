"""POST /v1/creators."""

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from checkout import routing, subscriptions, wiring
from checkout.api.documents import CreatorShown, NewCreator
from checkout.api.refusals import not_served, wrong_field
from checkout.http import Problem, caller, idempotency_key, idempotent, sent_json, validated
from checkout.http.openapi import IDEMPOTENCY, ON_POST, answers
from checkout.models import Creator, RoutingRule


class Creators(APIView):
    """Creators of the account."""

    @extend_schema(
        operation_id="create_creator",
        summary="Register a creator",
        parameters=[*IDEMPOTENCY],
        request=NewCreator,
        responses=answers({201: CreatorShown}, *ON_POST, "creator-exists", "country-not-served"),
        examples=[
            OpenApiExample(
                "a creator in Kazakhstan",
                value={
                    "external_id": "creator-0001",
                    "name": "Aigerim Bekova",
                    "email": "aigerim@example.com",
                    "country": "KZ",
                    "time_zone": "Asia/Almaty",
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> HttpResponse:
        key = idempotency_key(request)
        facts = validated(NewCreator, sent_json(request))
        account_id, now = caller(request).account_id, wiring.clock().now()

        def register() -> tuple[int, object]:
            creator = _register(account_id=account_id, now=now, **facts)
            return 201, CreatorShown(creator).data

        return idempotent(request=request, key=key, now=now, work=register)


def _register(*, account_id: UUID, external_id: str, country: str, **facts: Any) -> Creator:
    """`subscriptions.register_creator`, its refusals as problems.

    It finds a creator with the same facts again; a client is told so, whatever the facts.
    """
    known = Creator.derive_id(account_id=account_id, external_id=external_id)
    if Creator.objects.filter(pk=known).exists():
        raise _creator_exists(known)
    if not RoutingRule.objects.filter(country=country).exists():
        raise wrong_field("country", "no routing rule knows this country")
    try:
        return subscriptions.register_creator(
            account_id=account_id, external_id=external_id, country=country, **facts
        )
    except subscriptions.CreatorExists:
        # Another request committed between the question above and the insert.
        raise _creator_exists(known) from None
    except routing.NoLane as error:
        raise not_served(error.refusal) from None


def _creator_exists(creator_id: UUID) -> Problem:
    return Problem(
        "creator-exists",
        "Another request registered this external id; its creator is named by id.",
        members={"id": str(creator_id)},
    )
