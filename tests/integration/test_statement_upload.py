"""Upload: what a file would do is shown first; what was shown is imported by its own hash."""

import gzip
import hashlib
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from settlements.models import (
    BankStatement,
    ImportState,
    StatementImport,
    StatementTerms,
    StatementUpload,
)
from settlements.roles import ANALYST, OPERATOR, VIEWER
from settlements.uploads import forget_uploads
from tests.factories import LANE, World
from tests.factories_roles import member, user_of
from tests.factories_settlements import statement_text, take_in
from tests.integration.test_statements import DAY, NEXT, paid

pytestmark = pytest.mark.django_db

FILES = Path(__file__).parents[1] / "files" / "statements"
UPLOAD = "/admin/settlements/statementimport/upload/"


@pytest.fixture
def world() -> World:
    return World()


def send(client: Client, content: str | bytes, *, whose: str = LANE, name: str = "cis.csv", **said):
    raw = content.encode() if isinstance(content, str) else content
    return client.post(UPLOAD, {"whose": whose, "file": SimpleUploadedFile(name, raw), **said})


def review(client: Client, content: str | bytes, **facts) -> str:
    """The page that is shown after the upload, tags and all."""
    answer = send(client, content, **facts)
    assert answer.status_code == 302, answer.content.decode()
    return client.get(answer["Location"]).content.decode()


def address(content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return f"{UPLOAD}{hashlib.sha256(raw).hexdigest()}/"


def confirmed(page: str) -> dict[str, str]:
    """What the page's own button posts, with a reason."""
    asked = dict(re.findall(r'<input type="hidden" name="(upload)" value="([0-9]+)">', page))
    return asked | {"reason": "sent by mail"}


def test_a_file_is_shown_first_and_imported_by_its_hash(world):
    """Days, count, sums and verdict; then exactly this file, with a trace."""
    paid(world)
    text, analyst = statement_text(DAY), member(ANALYST)

    page = review(analyst, text)

    assert "It would be accepted" in page
    assert "<strong>1</strong> line<" in page
    assert "<strong>19.11</strong> USD" in page
    assert "2026-01-31 to 2026-01-31 · opening 0.00 · closing 19.11" in page
    assert '<td>charge</td><td>1</td><td class="money">19.99</td>' in page
    assert StatementImport.objects.count() == 0

    done = analyst.post(address(text), confirmed(page), follow=True)

    statement = StatementImport.objects.get()
    assert (statement.state, statement.imported_by) == (ImportState.ACCEPTED, ANALYST)
    assert "accepted, 19.11 USD" in done.content.decode()
    kept = LogEntry.objects.get()
    assert kept.object_id == str(statement.pk)
    assert kept.change_message == "Uploaded cis.csv: sent by mail"
    assert StatementUpload.objects.count() == 0


def test_without_a_reason_nothing_is_imported(world):
    paid(world)
    text, analyst = statement_text(DAY), member(ANALYST)
    page = review(analyst, text)

    answer = analyst.post(address(text), confirmed(page) | {"reason": "ok"})

    assert "Say why, in 5 to 300 characters." in answer.content.decode()
    assert "Import exactly this file" in answer.content.decode()
    assert StatementImport.objects.count() == 0


def test_a_packed_banks_file_is_reviewed_and_imported(world):
    raw = (FILES / "mock-bank-day-1.camt.053.001.08.xml").read_bytes()
    packed, analyst = gzip.compress(raw, mtime=0), member(ANALYST)

    page = review(analyst, packed, whose="bank", name="bank.xml.gz")

    assert "GB33BUKB20201555555555, 2026-01-05 to 2026-01-05" in page
    assert "<strong>1,949.22</strong> USD" in page
    analyst.post(address(packed), confirmed(page))
    assert BankStatement.objects.get().entries.count() == 3


def test_what_cannot_be_read_is_listed_and_cannot_be_confirmed(world):
    """R39: every bad line, and nothing behind."""
    paid(world)
    text, analyst = statement_text(DAY).replace("19.99", "<b>null</b>"), member(ANALYST)

    page = review(analyst, text)

    assert "line 3: gross &#x27;&lt;b&gt;null&lt;/b&gt;&#x27; is not an amount" in page
    assert "Import exactly this file" not in page
    analyst.post(address(text), confirmed(page))
    assert StatementImport.objects.count() == 0


def test_what_a_page_showed_is_imported_and_nothing_else(world):
    """The same file sent again for another lane, in another tab: the first page imports nothing."""
    paid(world)
    text, analyst = statement_text(DAY), member(ANALYST)
    shown = review(analyst, text)
    review(analyst, text, whose="mena")

    done = analyst.post(address(text), confirmed(shown), follow=True)

    assert "no longer under review" in done.content.decode()
    assert StatementImport.objects.count() == 0


def test_what_would_be_set_aside_says_why(world, tmp_path):
    """R40."""
    paid(world)
    take_in(statement_text(DAY), world=world, folder=tmp_path)

    page = review(member(ANALYST), statement_text(NEXT).replace("19.11", "19.12"))

    assert "would be set aside" in page
    assert "opening 19.12 is not the former closing 19.11" in page


def test_a_file_that_is_known_says_so(world, tmp_path):
    """R39."""
    paid(world)
    text = statement_text(DAY)
    take_in(text, world=world, folder=tmp_path)

    page = review(member(ANALYST), text)

    assert "was imported before" in page
    assert "Import exactly this file" not in page


def test_what_stripe_leaves_out_is_told_in_the_form(world):
    [report] = FILES.glob("itemized*.csv")
    analyst = member(ANALYST)

    assert "tell the first and the last day" in review(analyst, report.read_bytes(), name="a.csv")
    days = {"first_day": "2026-01-05", "last_day": "2026-01-05"}
    assert "Closing in the upload form" in review(
        analyst, report.read_bytes(), name="a.csv", **days
    )
    cut = review(
        analyst, report.read_bytes(), name="a.csv", **days, opening="100.00", closing="96.23"
    )
    assert "but the closing is 96.23; is the report whole" in cut
    page = review(
        analyst, report.read_bytes(), name="a.csv", **days, opening="100.00", closing="94.98"
    )

    assert "opening 100.00 · closing 94.98" in page
    assert "It would be accepted" in page


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"first_day": "2026-01-05"}, "first_day and last_day go together"),
        ({"opening": "1.00"}, "opening goes with closing"),
        ({"first_day": "2026-01-05", "last_day": "2026-01-04"}, "before the first day"),
        ({"opening": "1,5", "closing": "1.00"}, "is not an amount such as 19.99"),
        ({"whose": "nobody"}, "nobody is not one of the available choices"),
    ],
)
def test_a_form_that_does_not_fit_says_where(said, says):
    answer = send(member(ANALYST), "x", **said)

    assert answer.status_code == 200
    assert says in answer.content.decode()


def test_one_persons_file_is_nobody_elses(world):
    paid(world)
    text = statement_text(DAY)
    review(member(ANALYST), text)

    answer = member(OPERATOR).post(address(text), follow=True)

    assert "no longer under review" in answer.content.decode()
    assert StatementImport.objects.count() == 0


def test_the_next_file_takes_the_formers_place(world):
    analyst = member(ANALYST)
    review(analyst, "first")
    review(analyst, "second")

    assert StatementUpload.objects.get().sha256 == hashlib.sha256(b"second").hexdigest()


def test_a_file_nobody_confirms_is_forgotten_after_a_day(world):
    review(member(ANALYST), "x")
    moment = world.clock.now()
    uploaded_at = StatementUpload.objects.get().uploaded_at
    at = {"business": moment.business}

    assert forget_uploads(now=type(moment)(real=uploaded_at + timedelta(hours=23), **at)) == 0
    assert forget_uploads(now=type(moment)(real=uploaded_at + timedelta(hours=25), **at)) == 1


def test_a_file_that_is_too_large_is_refused_before_it_is_read(settings):
    """FAULTS, hostile input: from its length alone."""
    settings.STATEMENT_UPLOAD_BYTES = 1000

    answer = send(member(ANALYST), b"x" * 100_000)

    assert answer.status_code == 413
    assert b"import it with manage.py import_statement" in answer.content


def test_an_upload_from_elsewhere_is_refused():
    """CSRF is checked inside, once the length has been looked at."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_of(ANALYST))

    assert send(client, "x").status_code == 403
    assert client.post(address("x")).status_code == 403


def test_who_may_not_upload_may_not_confirm_either():
    viewer = member(VIEWER)

    assert send(viewer, "x").status_code == 403
    assert viewer.post(address("x")).status_code == 403
    listed = viewer.get(reverse("admin:settlements_statementimport_changelist")).content.decode()
    assert "Upload a statement" not in listed


# --- Terms -------------------------------------------------------------------------------------------

AGREE = "/admin/settlements/statementterms/agree/"
TERMS = {
    "lane": LANE,
    "covers": "week",
    "time_zone": "Asia/Almaty",
    "due_days": "2",
    "due_time": "09:30",
    "reason": "as the contract says",
}


def test_terms_are_set_by_staff_with_a_reason():
    analyst = member(ANALYST)

    analyst.post(AGREE, TERMS)
    done = analyst.post(AGREE, TERMS | {"due_days": "3"}, follow=True)

    terms = StatementTerms.objects.get()
    assert (terms.covers, terms.time_zone, terms.due_days) == ("week", "Asia/Almaty", 3)
    assert "Set: cis: a file a week" in done.content.decode()
    assert LogEntry.objects.count() == 2
    assert all("as the contract says" in each.change_message for each in LogEntry.objects.all())


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"time_zone": "Mars/Olympus"}, "is no zone"),
        ({"due_days": "0"}, "greater than or equal to 1"),
        ({"reason": ""}, "This field is required"),
    ],
)
def test_terms_that_cannot_be_are_refused(said, says):
    answer = member(ANALYST).post(AGREE, TERMS | said)

    assert says in answer.content.decode()
    assert StatementTerms.objects.count() == 0


def test_a_zone_that_may_not_change_says_so_beside_its_field(world, tmp_path):
    paid(world)
    take_in(statement_text(DAY), world=world, folder=tmp_path)

    answer = member(ANALYST).post(AGREE, TERMS)

    assert "its days stay in their zone" in answer.content.decode()
