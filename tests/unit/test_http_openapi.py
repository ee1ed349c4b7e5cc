"""The OpenAPI document holds every address with every refusal (R50), and the guide names them too."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from checkout.http import PROBLEM_MEDIA_TYPE, PROBLEMS
from checkout.money import PATTERN

GUIDE = Path(__file__).parents[2] / "docs" / "api.md"
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> Any:
    response = Client().get("/v1/openapi.json")
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    return response.json()


def operations(document: Any) -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def problem_types(operation: Any) -> set[str]:
    """Those an operation documents, by its examples."""
    return {
        example["value"]["type"].removeprefix("/problems/")
        for response in operation["responses"].values()
        for example in response["content"].get(PROBLEM_MEDIA_TYPE, {}).get("examples", {}).values()
    }


def test_the_document_is_valid_openapi(document: Any) -> None:
    validate_schema(document)


def test_the_generator_has_nothing_to_complain_of() -> None:
    GENERATOR_STATS.reset()

    SchemaGenerator().get_schema(request=None, public=True)

    assert not {**GENERATOR_STATS._warn_cache, **GENERATOR_STATS._error_cache}


def test_every_address_under_v1_is_in_it(document: Any) -> None:
    routes = {
        "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        for included in get_resolver().url_patterns
        for pattern in getattr(included, "url_patterns", [])
        if str(included.pattern) == "" and str(pattern.pattern).startswith("v1/")
    }

    assert len(routes) >= 6
    assert set(document["paths"]) == routes


def test_every_operation_tells_of_its_refusals(document: Any) -> None:
    for name, operation in operations(document).items():
        told = problem_types(operation)
        assert {"not-acceptable", "internal-error"} <= told, name
        if name == "GET /v1/openapi.json":
            continue
        assert "database-away" in told, name
        if operation.get("security") != [] and "webhooks" not in name:
            assert "unauthenticated" in told, name
            assert operation["security"] == [{"ApiKey": []}], name
        if name.startswith("POST") and "webhooks" not in name:
            statuses = {"400", "401", "409", "413", "415", "422", "503"}
            assert statuses <= set(operation["responses"]), name
            assert {
                *("idempotency-key-missing", "idempotency-key-reused", "idempotency-key-in-use"),
                *("validation-failed", "malformed-body", "body-too-large"),
            } <= told, name
            parameters = {(p["name"], p["in"], p.get("required")) for p in operation["parameters"]}
            assert ("Idempotency-Key", "header", True) in parameters, name


def test_every_problem_is_documented_somewhere_with_its_own_status(document: Any) -> None:
    told = set().union(*map(problem_types, operations(document).values()))
    # These two come before any operation is reached.
    assert set(PROBLEMS) - told <= {"method-not-allowed", "bad-request"}

    for operation in operations(document).values():
        for status, response in operation["responses"].items():
            content = response["content"].get(PROBLEM_MEDIA_TYPE, {})
            for example in content.get("examples", {}).values():
                slug = example["value"]["type"].removeprefix("/problems/")
                assert str(PROBLEMS[slug].status) == status


def test_r2_amounts_are_strings_with_the_pattern(document: Any) -> None:
    amount = document["components"]["schemas"]["ChargeShown"]["properties"]["amount"]

    assert (amount["type"], amount["pattern"]) == ("string", PATTERN)
    assert '"number"' not in json.dumps(document)


def test_the_webhook_needs_no_key_and_the_rest_does(document: Any) -> None:
    scheme = document["components"]["securitySchemes"]["ApiKey"]

    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    webhook = operations(document)["POST /v1/webhooks/{processor}"]
    assert webhook.get("security", [{}]) == [{}]


def test_the_guide_names_every_problem_and_no_other() -> None:
    rows = re.findall(r"^\| `/problems/([a-z-]+)` \| (\d{3}) \|", GUIDE.read_text("utf-8"), re.M)

    assert {slug: int(status) for slug, status in rows} == {
        slug: kind.status for slug, kind in PROBLEMS.items()
    }


def test_the_guide_names_every_operation(document: Any) -> None:
    guide = GUIDE.read_text("utf-8")

    for name in operations(document):
        assert f"`{name}`" in guide, name
