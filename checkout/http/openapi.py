"""How the OpenAPI document tells of keys, repetition and every refusal (R50)."""

from collections.abc import Mapping
from typing import Any, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from checkout.http.problems import PROBLEM_MEDIA_TYPE, PROBLEMS


class FieldError(serializers.Serializer[Any]):
    field = serializers.CharField(help_text="Empty when it is about the body as a whole.")
    message = serializers.CharField()


class ProblemShown(serializers.Serializer[Any]):
    """A refusal, as problem+json (RFC 9457). Compare `type`; it never changes."""

    type = serializers.ChoiceField(choices=[f"/problems/{slug}" for slug in PROBLEMS])
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    # The stubs take it for Serializer.errors; declared fields never stay on the class.
    errors = FieldError(many=True, required=False)  # type: ignore[assignment]


ANYWHERE: Final = ("not-acceptable", "database-away", "internal-error")
WITH_KEY: Final = (*ANYWHERE, "unauthenticated")
ON_POST: Final = (
    *WITH_KEY,
    *("malformed-body", "idempotency-key-missing", "idempotency-key-invalid"),
    *(
        "idempotency-key-in-use",
        "conflict",
        "length-required",
        "body-too-large",
        "unsupported-media-type",
    ),
    *("validation-failed", "idempotency-key-reused"),
)
IDEMPOTENCY: Final = (
    OpenApiParameter(
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!-~]([ -~]*[!-~])?$"},
        OpenApiParameter.HEADER,
        required=True,
        description="Repeat a request with the same key: it happens once (kept 30 days).",
    ),
    OpenApiParameter(
        "Idempotent-Replayed",
        {"type": "string", "enum": ["true"]},
        OpenApiParameter.HEADER,
        response=[201],
        description="The answer of the first request with this key, byte for byte.",
    ),
)


def answers(
    good: Mapping[int, type[serializers.Serializer[Any]] | OpenApiTypes], *slugs: str
) -> dict[Any, Any]:
    """The OpenAPI answers of an operation: the good ones, and each problem with an example."""
    by_status: dict[int, list[str]] = {}
    for slug in sorted(slugs):
        by_status.setdefault(PROBLEMS[slug].status, []).append(slug)
    refusals = {
        (status, PROBLEM_MEDIA_TYPE): OpenApiResponse(
            ProblemShown,
            description=" · ".join(PROBLEMS[slug].title for slug in found),
            examples=[_example(slug) for slug in found],
        )
        for status, found in sorted(by_status.items())
    }
    return {**good, **refusals}


def _example(slug: str) -> OpenApiExample:
    kind = PROBLEMS[slug]
    document: dict[str, object] = {
        "type": f"/problems/{slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": "What is wrong, in a sentence.",
    }
    if slug == "validation-failed":
        document["errors"] = [{"field": "plan", "message": "there is no such plan"}]
    return OpenApiExample(
        slug,
        value=document,
        response_only=True,
        status_codes=[str(kind.status)],
        media_type=PROBLEM_MEDIA_TYPE,
    )


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the document describes ApiKeyAuthentication."""

    target_class = "checkout.http.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002
        return {"type": "http", "scheme": "bearer", "bearerFormat": "ck_<prefix>_<secret>"}
