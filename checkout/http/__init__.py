"""How the API meets HTTP: keys, strict JSON, problems, deadlines, and a POST that happens once."""

from checkout.http.bodies import (
    StrictJsonParser,
    looks_like_card,
    refuse_chunks,
    sent_json,
    validated,
    validated_query,
)
from checkout.http.deadline import bounded, in_one_commit, reading
from checkout.http.fields import Instant, Money, Text, Uuid, WholeNumber
from checkout.http.keys import ApiKeyAuthentication, Caller, caller
from checkout.http.left import unless_left
from checkout.http.once import idempotency_key, idempotent
from checkout.http.problems import (
    PROBLEM_MEDIA_TYPE,
    PROBLEMS,
    Problem,
    answer_400,
    answer_404,
    answer_500,
    answered,
    as_json,
    field_errors,
    problem_handler,
)

__all__ = [
    "PROBLEMS",
    "PROBLEM_MEDIA_TYPE",
    "ApiKeyAuthentication",
    "Caller",
    "Instant",
    "Money",
    "Problem",
    "StrictJsonParser",
    "Text",
    "Uuid",
    "WholeNumber",
    "answer_400",
    "answer_404",
    "answer_500",
    "answered",
    "as_json",
    "bounded",
    "caller",
    "field_errors",
    "idempotency_key",
    "idempotent",
    "in_one_commit",
    "looks_like_card",
    "problem_handler",
    "reading",
    "refuse_chunks",
    "sent_json",
    "unless_left",
    "validated",
    "validated_query",
]
