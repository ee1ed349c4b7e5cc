"""GET /v1/openapi.json."""

from functools import cache
from typing import Any

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from checkout.http import answered, as_json
from checkout.http.openapi import answers


@cache
def openapi_document() -> dict[str, Any]:
    """Every operation under /v1/ with all its answers (R50); made once a process."""
    generator: Any = SchemaGenerator  # its methods carry no types
    return dict(generator().get_schema(request=None, public=True))


class OpenApi(APIView):
    """The document itself, for anybody."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="read_openapi",
        summary="This document",
        responses=answers({200: OpenApiTypes.OBJECT}, "not-acceptable", "internal-error"),
    )
    def get(self, request: Request) -> HttpResponse:  # noqa: ARG002  DRF's signature
        return answered(as_json(openapi_document()))
