"""GET /v1/charges, paged by a signed cursor."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core import signing
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from checkout.api.documents import ChargePage, ChargeQuery, ChargeShown
from checkout.api.refusals import wrong_field
from checkout.http import answered, as_json, caller, reading, validated_query
from checkout.http.openapi import WITH_KEY, answers
from checkout.models import Charge


class Charges(APIView):
    """Charges of the account."""

    @extend_schema(
        operation_id="list_charges",
        summary="List charges, newest first",
        parameters=[ChargeQuery],
        responses=answers({200: ChargePage}, *WITH_KEY, "validation-failed"),
    )
    def get(self, request: Request) -> HttpResponse:
        asked = validated_query(ChargeQuery, request)
        limit = asked.get("limit", 50)
        charges = _chosen(caller(request).account_id, asked)
        page = reading(request, lambda: list(charges[: limit + 1]))
        document = {
            "charges": [ChargeShown(charge).data for charge in page[:limit]],
            "next_cursor": _cursor_after(page[limit - 1]) if len(page) > limit else None,
        }
        return answered(as_json(document))


def _chosen(account_id: UUID, asked: Mapping[str, Any]) -> QuerySet[Charge]:
    charges = Charge.objects.filter(creator__account_id=account_id).select_related("terms")
    columns = {
        "creator_id": "creator_id",
        "subscription_id": "subscription_id",
        "state": "state",
        "since": "created_at__gte",
        "until": "created_at__lt",
    }
    charges = charges.filter(**{columns[k]: v for k, v in asked.items() if k in columns})
    if "cursor" in asked:
        created_at, last = _read_cursor(asked["cursor"])
        # The first condition alone would do for the index; the second ends ties by id.
        charges = charges.filter(created_at__lte=created_at).filter(
            Q(created_at__lt=created_at) | Q(id__lt=last)
        )
    return charges.order_by("-created_at", "-id")


def _signer() -> signing.Signer:
    """Nobody but us writes a cursor, so that what is in one need not be checked (R50)."""
    return signing.Signer(salt="checkout.charges.cursor")


def _cursor_after(charge: Charge) -> str:
    return _signer().sign_object([charge.created_at.isoformat(), str(charge.id)])


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        created_at, last = _signer().unsign_object(cursor)
    except signing.BadSignature:
        raise wrong_field(
            "cursor", "this is no cursor of ours; send next_cursor unchanged"
        ) from None
    return datetime.fromisoformat(created_at), UUID(last)
