"""What the API refuses, always as a problem that names the field (R50)."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from checkout import wiring
from checkout.models import (
    Creator,
    IdempotencyRecord,
    Subscription,
)
from config.logs import JsonFormatter
from tests import factories
from tests.platforms import (
    NEW_CREATOR,
    Platform,
    fields,
    platform_named,
    ready_platform,
    register,
    slug,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def platform() -> Platform:
    return ready_platform()


@pytest.fixture
def creator(platform: Platform) -> Creator:
    return register(platform)


def test_a_country_that_no_processor_may_serve_is_told_with_its_rule(platform: Platform) -> None:
    factories.routing_rule("KP", lane="", reason="sanctions", source="OFAC list of 2026-01-01")

    response = platform.post("/v1/creators", NEW_CREATOR | {"country": "KP"}, key="k")

    assert (response.status_code, slug(response)) == (409, "country-not-served")
    assert response.json()["reason"] == "sanctions"
    assert response.json()["source"] == "OFAC list of 2026-01-01"
    assert not Creator.objects.exists()


def test_a_country_refused_since_stops_the_checkout(platform: Platform, creator: Creator) -> None:
    since = wiring.clock().business_now().date()
    factories.routing_rule(
        "KZ", lane="", valid_from=since, reason="licence ended", source="the regulator"
    )

    response = platform.start(of=creator)

    assert (response.status_code, slug(response)) == (409, "country-not-served")
    assert response.json()["reason"] == "licence ended"
    assert not IdempotencyRecord.objects.exists()


def test_a_creator_that_exists_is_named(platform: Platform, creator: Creator) -> None:
    body = NEW_CREATOR | {"external_id": creator.external_id}
    same = body | {"name": creator.name, "email": creator.email}

    for key, facts in (("k1", body), ("k2", same)):
        response = platform.post("/v1/creators", facts, key=key)
        assert (response.status_code, slug(response)) == (409, "creator-exists")
        assert response.json()["id"] == str(creator.pk)
    assert Creator.objects.get().name == "Aigerim Bekova"


@pytest.mark.django_db(transaction=True)
def test_two_at_once_with_other_facts_make_one_creator(platform: Platform) -> None:
    """Both ask before either inserts; the second waits at the primary key, then is told."""
    barrier = threading.Barrier(2)

    def create(name: str) -> int:
        barrier.wait()
        try:
            who = Platform(platform.account, platform.key)
            body = NEW_CREATOR | {"name": name}
            return int(who.post("/v1/creators", body, key=name).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(pool.map(create, ["Aruzhan", "Dana"]))

    assert statuses == [201, 409]
    assert Creator.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"creator_id": str(uuid4())}, "creator_id"),
        ({"creator_id": 1}, "creator_id"),
        ({"creator_id": None}, "creator_id"),
        ({"plan": "yearly"}, "plan"),
        ({"plan": "no such"}, "plan"),
        ({"plan": None}, "plan"),
        ({"token": "4242424242424242"}, "token"),
        ({"token": "4242 4242 4242 4242"}, "token"),
        ({"token": 4242}, "token"),
        ({"token": "x" * 129}, "token"),
        ({"token": "tok\u0000"}, "token"),
        ({"amount": "0.01"}, "amount"),
        ({"state": "succeeded"}, "state"),
        ({"id": str(uuid4())}, "id"),
    ],
)
def test_a_checkout_names_the_field_that_is_wrong(
    platform: Platform, creator: Creator, change: dict[str, Any], field: str
) -> None:
    response = platform.start(of=creator, **change)

    assert (response.status_code, slug(response)) == (422, "validation-failed")
    assert fields(response) == {field}
    assert not Subscription.objects.exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"external_id": "x" * 65}, "external_id"),
        ({"external_id": ""}, "external_id"),
        ({"name": "a\nb"}, "name"),
        ({"email": "nobody"}, "email"),
        ({"email": " dana@example.com"}, "email"),
        ({"email": 5}, "email"),
        ({"country": "kz"}, "country"),
        ({"country": "KZ\n"}, "country"),
        ({"country": "KAZ"}, "country"),
        ({"country": "XX"}, "country"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"account_id": str(uuid4())}, "account_id"),
        ({"event_seq": 7}, "event_seq"),
    ],
)
def test_a_creator_names_the_field_that_is_wrong(
    platform: Platform, change: dict[str, Any], field: str
) -> None:
    response = platform.post("/v1/creators", NEW_CREATOR | change, key="k")

    assert (response.status_code, slug(response)) == (422, "validation-failed")
    assert fields(response) == {field}
    assert not Creator.objects.exists()


def test_a_card_number_is_neither_stored_nor_logged_nor_repeated(
    platform: Platform, creator: Creator, caplog: pytest.LogCaptureFixture
) -> None:
    card = "4242424242424242"
    with caplog.at_level("DEBUG"):
        answers = [
            platform.start(of=creator, token=card),
            platform.start(of=creator, **{card: "x"}),
            platform.start(of=creator, key=card),
            platform.get("/v1/charges", **{card: "x"}),
            platform.post("/v1/creators", NEW_CREATOR | {"name": f"Dana {card}"}, key="k"),
        ]

    assert {a.status_code for a in answers} <= {400, 422}
    assert all(card not in a.content.decode() for a in answers)
    assert all(card not in JsonFormatter().format(record) for record in caplog.records)


def test_another_accounts_creators_and_checkouts_are_not_there(
    platform: Platform, creator: Creator
) -> None:
    other = platform_named("another platform")
    checkout = platform.start(of=creator).json()["id"]

    stolen = other.start(of=creator)

    assert (stolen.status_code, fields(stolen)) == (422, {"creator_id"})
    assert other.get(f"/v1/checkouts/{checkout}").status_code == 404
    assert other.get("/v1/charges").json()["charges"] == []
    assert other.get("/v1/charges", creator_id=creator.pk).json()["charges"] == []


@pytest.mark.parametrize(
    ("method", "path", "status", "problem"),
    [
        ("get", "/v1/nothing", 404, "not-found"),
        ("get", "/v1/checkouts/not-a-uuid", 404, "not-found"),
        ("get", "/v1/checkouts/%00", 404, "not-found"),
        ("get", f"/v1/checkouts/{'9' * 3500}", 404, "not-found"),
        ("get", "/v1/checkouts/11111111-4111-4111-8111-111111111111", 404, "not-found"),
        ("get", "/v1/creators", 405, "method-not-allowed"),
        ("put", "/v1/checkouts", 405, "method-not-allowed"),
        ("delete", "/v1/charges", 405, "method-not-allowed"),
        ("post", "/v1/webhooks/nobody", 404, "not-found"),
    ],
)
def test_r50_what_is_not_there_is_a_problem_too(
    platform: Platform, method: str, path: str, status: int, problem: str
) -> None:
    headers = {"Authorization": f"Bearer {platform.key}"}

    response = getattr(platform.client, method)(path, headers=headers)

    assert (response.status_code, slug(response)) == (status, problem)


def test_r50_media_types_sizes_and_hosts_are_problems(platform: Platform) -> None:
    headers = {"Authorization": f"Bearer {platform.key}", "Idempotency-Key": "k"}

    form = platform.client.post("/v1/creators", NEW_CREATOR, headers=headers)
    large = platform.post("/v1/creators", b'{"a": "' + b"x" * 256 * 1024 + b'"}', key="k")
    html = platform.client.get("/v1/charges", headers={**headers, "Accept": "text/html"})
    host = platform.client.get("/v1/charges", headers={**headers, "Host": "evil.example"})

    assert (form.status_code, slug(form)) == (415, "unsupported-media-type")
    assert (large.status_code, slug(large)) == (413, "body-too-large")
    assert (html.status_code, slug(html)) == (406, "not-acceptable")
    assert (host.status_code, slug(host)) == (400, "bad-request")


@pytest.mark.parametrize("path", ["/v1/creators", "/v1/checkouts", "/v1/webhooks/sandbox"])
def test_r50_a_body_in_chunks_is_not_taken_for_an_empty_one(platform: Platform, path: str) -> None:
    response = platform.client.post(
        path,
        content_type="application/json",
        headers={
            "Authorization": f"Bearer {platform.key}",
            "Idempotency-Key": "k",
            "Transfer-Encoding": "chunked",
        },
        CONTENT_LENGTH="",
    )

    assert (response.status_code, slug(response)) == (411, "length-required")


QUERIES = [
    *("creator_id=abc", "creator_id=%00", "creator_id=1e400", "creator_id=", "creator_id=1"),
    *("subscription_id=true", "state=", "state=paid", "state=due&state=due", "state=%ff"),
    *("since=abc", "since=9999-99-99", "since=0001-01-01T00:00:00%2B14:00", "until=2026-01-01"),
    *("limit=0", "limit=201", "limit=-1", "limit=last", "limit=%EF%BC%91", "limit=" + "9" * 4000),
    *("cursor=cD1hYmM=", "cursor=cD0A", "cursor=", "cursor=" + "a" * 500, "cursor=%00"),
    *("page=1", "q=%00", "=x", "created_at__lt=2026-01-01T00:00:00Z", "account_id=1"),
]


@pytest.mark.parametrize("query", QUERIES)
def test_r50_a_hostile_query_is_refused_by_name(platform: Platform, query: str) -> None:
    response = platform.get(f"/v1/charges?{query}")

    assert (response.status_code, slug(response)) == (422, "validation-failed")
    assert fields(response) == {query.split("=")[0]}


def test_r50_a_thousand_parameters_are_refused(platform: Platform) -> None:
    response = platform.get("/v1/charges?" + "&".join(f"a{i}=1" for i in range(1500)))

    assert (response.status_code, slug(response)) == (400, "bad-request")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.sampled_from(["monthly", "KZ", "UTC", "a@b.co", "tok_1", "1.00", "\x00", "x" * 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
names = st.sampled_from(
    [*NEW_CREATOR, "creator_id", "plan", "token", "account", "id", "amount"]
) | st.text(max_size=6)


@hypothesis_settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    path=st.sampled_from(["/v1/creators", "/v1/checkouts"]),
    changes=st.dictionaries(names, json_values, max_size=4),
    whole=st.booleans(),
)
def test_r50_no_body_makes_a_500(
    platform: Platform, path: str, changes: dict[str, Any], whole: bool
) -> None:
    known = {"creator_id": str(uuid4()), "plan": "monthly", "token": "tok_1"}
    body = (NEW_CREATOR if path == "/v1/creators" else known) | changes if whole else changes

    response = platform.post(path, json.dumps(body), key=str(uuid4()))

    assert response.status_code in {201, 400, 409, 422}
    if response.status_code != 201:
        assert slug(response) in {
            *("malformed-body", "validation-failed", "creator-exists", "country-not-served"),
        }
