"""Addresses and forms that no page makes: an answer with a sentence, never a 500 (R50)."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client

from checkout.clock import Clock
from settlements.formats.lines import Told
from settlements.models import StatementUpload
from settlements.roles import ANALYST, APPROVER, OPERATOR
from settlements.uploads import keep_upload
from tests.factories import World
from tests.factories_roles import member
from tests.together import together

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    world = World()
    world.receive(world.due_charge())
    return world


@pytest.fixture
def anyone() -> Client:
    return member(ANALYST, APPROVER, OPERATOR, name="eve")


@pytest.mark.parametrize(
    "address",
    [
        "/admin/settlements/discrepancy/?cause=a~b~c~1e999999",
        "/admin/settlements/discrepancy/?cause=a~b~c~NaN",
        "/admin/settlements/discrepancy/?cause=a~b~c~sNaN",
        "/admin/settlements/discrepancy/?cause=a~b~c~Infinity",
        "/admin/settlements/discrepancy/?cause=a~%00~c~0.03",
        "/admin/settlements/discrepancy/?cause=a~b~c~99999999999999.99",
        "/admin/settlements/discrepancy/?q=%00",
        "/admin/settlements/bankentry/?q=%00",
        "/admin/settlements/bankentry/?credited=9999-12",
        "/admin/settlements/bankentry/?credited=0000-00",
        "/admin/settlements/bankentry/?statement__id__exact=99999999999999999999",
        "/admin/settlements/proposal/99999999999999999999/change/",
        "/admin/settlements/booksclose/99999999999999999999/change/",
        "/admin/settlements/booksclose/%00/change/",
        "/admin/settlements/statementimport/upload/%00/",
        "/admin/checkout/bulkrequeue/dead-letters/?look=1&since=0001-01-01T00:00&until=9999-12-31T23:59",
        "/admin/checkout/bulkrequeue/dead-letters/?look=1&lane=%00",
        "/admin/match/?attempt=x&line=99999999999999999999",
    ],
)
@pytest.mark.usefixtures("world")
def test_an_address_nobody_made_is_answered(anyone: Client, address: str) -> None:
    assert anyone.get(address, follow=True).status_code in {200, 404}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/admin/settlements/booksclose/next/", {"day": "\0", "reason-file": "x"}),
        ("/admin/settlements/booksclose/next/", {"day": "2026-01-31", "reason-file": "a\0b"}),
        ("/admin/settlements/booksclose/99999999999999999999/decide/", {"decision": "approve"}),
        ("/admin/settlements/proposal/99999999999999999999/decide/", {"decision": "approve"}),
        (
            "/admin/settlements/discrepancy/",
            {"action": "propose", "_selected_action": "99999999999999999999"},
        ),
        (
            "/admin/checkout/bulkrequeue/dead-letters/",
            {"lane": "\0", "seen": "\0", "reason": "long enough"},
        ),
    ],
)
@pytest.mark.usefixtures("world")
def test_a_form_nobody_made_is_answered(anyone: Client, address: str, said: dict[str, str]) -> None:
    assert anyone.post(address, said, follow=True).status_code in {200, 403, 404}


@pytest.mark.parametrize("name", ["a\0b.csv", "../../etc/passwd", "x" * 300, "=cmd|'/c calc'!A1"])
@pytest.mark.usefixtures("world")
def test_a_file_with_a_name_nobody_gave_is_answered(anyone: Client, name: str) -> None:
    file = SimpleUploadedFile("x", b"x")
    file._name = name  # type: ignore[attr-defined]  # what a browser may claim, before Django makes it a name
    answer = anyone.post(
        "/admin/settlements/statementimport/upload/", {"whose": "bank", "file": file}, follow=True
    )
    assert answer.status_code == 200


@pytest.mark.django_db(transaction=True)
def test_two_uploads_of_one_person_at_once_leave_one(world: World) -> None:
    def send() -> None:
        with transaction.atomic():
            keep_upload(
                content=b"x", file_name="x", lane="", told=Told(), by="ann", now=Clock().now()
            )

    assert together(send, send, send) == [None, None, None]
    assert StatementUpload.objects.count() == 1
