"""The evidence pack of a charge: complete, the same bytes each time, and nothing in it pays or runs."""

import csv
import hashlib
import json
from datetime import date, timedelta
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from django.urls import reverse

from checkout import rescue, subscriptions
from checkout.gateways import Approved, DeclineClass, Declined, InDoubt
from checkout.models import CaseKind, Charge, Creator, Door, OutboxMessage
from checkout.moves import open_case
from settlements import reconciliation, resolving
from settlements.admin.export_pages import writer_of
from settlements.exports.evidence import MEANS, UnknownCharge, write_evidence
from settlements.exports.snapshot import snapshot
from settlements.management.exporting import ExportWorker
from settlements.models import Discrepancy, ExportRun, ExportState, TopicRecord, Way
from settlements.roles import ANALYST, VIEWER
from tests.factories import World, account, fresh, routing_rule
from tests.factories_matches import approved_match, doubtful, proposed_match, told
from tests.factories_roles import member, pages_at
from tests.factories_settlements import statement_text, take_in
from tests.situations import in_doubt

pytestmark = pytest.mark.django_db(transaction=True)

DAY = date(2026, 1, 31)
TOKEN = "tok_approve_canary_4242"
EMAIL = "aigerim.canary@example.org"
NAME = "Aigerim Canary"
CARD = "4242 4242 4242 4242"
CANARIES = (TOKEN, EMAIL, NAME, CARD)
# What people and processors write: whatever of it a person's spreadsheet would run, and every canary.
EVIL = f"=HYPERLINK(1) about {TOKEN} of {NAME}, {EMAIL}, card {CARD}"


@pytest.fixture
def world() -> World:
    return World()


def creator_with_canaries(world: World) -> Creator:
    routing_rule()
    with transaction.atomic():
        return subscriptions.register_creator(
            account_id=account(clock=world.clock).pk,
            external_id="=1+1",
            name=NAME,
            email=EMAIL,
            country="KZ",
            time_zone="UTC",
            now=world.clock.now(),
        )


def worked_on(world: World, folder: Path) -> Charge:
    """Declined, in doubt, captured three cents short; published, in a file, found, noted, proposed, a case."""
    who = creator_with_canaries(world)
    world.gateway.answers = [
        Declined(DeclineClass.ISSUER_SOFT, "do_not_honor"),
        lambda request: Approved(request.amount - Decimal("0.03"), "USD", "ref-of-theirs"),
    ]
    charge = world.due_charge(of=who, token=TOKEN)
    world.receive(charge)
    world.clock.forward(seconds=400)
    world.receive(charge, count=2)
    for offset, message in enumerate(OutboxMessage.objects.filter(door=Door.KAFKA).order_by("id")):
        TopicRecord.objects.create(
            partition=0,
            offset=offset,
            event_id=message.event_id,
            key=message.key,
            sequence=message.event_seq or 0,
            sha256=message.payload_sha256,
            read_at=world.clock.real_now(),
        )
    folder.mkdir()
    take_in(statement_text(DAY), world=world, folder=folder, name="=sum.csv")
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    found = [Discrepancy.objects.get(code="under_charge").pk]
    now = world.clock.now()
    with transaction.atomic():
        resolving.note(discrepancy_ids=found, by="ann", text=EVIL, now=now)
        resolving.propose(discrepancy_ids=found, way=Way.CORRECTED, by="ann", reason=EVIL, now=now)
        open_case(
            CaseKind.REPAIRED_CHARGE,
            fresh(charge),
            subject="repaired by hand",
            amount=None,
            reason=EVIL,
            now=now,
        )
    return fresh(charge)


def pack_of(charge: Charge, world: World, *, by: str = "ann", seconds: int = 0) -> bytes:
    to, now = BytesIO(), world.clock.forward(seconds=seconds)
    with snapshot():
        write_evidence(charge_id=charge.pk, by=by, now=now, to=to)
    return to.getvalue()


def rows(pack: ZipFile, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(pack.read(name).decode(), newline="")))


def test_a_pack_holds_every_record_of_the_charge(world: World, tmp_path: Path) -> None:
    charge = worked_on(world, tmp_path / "in")

    pack = ZipFile(BytesIO(pack_of(charge, world)))

    (line,) = rows(pack, "statement-lines.csv")
    stored = Discrepancy.objects.get(code="under_charge")
    assert pack.testzip() is None
    assert rows(pack, "charge.csv")[0]["amount USD"] == "19.99"
    attempts = rows(pack, "attempts.csv")
    assert [row["outcome"] for row in attempts] == ["declined", "captured"]
    assert attempts[1]["processor reference"] == "ref-of-theirs"
    assert (line["file"], line["line"], line["gross USD"]) == ("'=sum.csv", "3", "19.96")
    file = (tmp_path / "in" / "=sum.csv").read_bytes()
    assert line["file SHA-256"] == hashlib.sha256(file).hexdigest()
    ledger = rows(pack, "ledger.csv")
    assert ledger[-1]["posted at"] == "sum"
    assert ledger[-1]["USD (debit +, credit −)"] == "0.00"
    assert {row["kind"] for row in ledger[:-1]} == {"billed", "captured"}
    assert str(stored.pk) in {row["discrepancy"] for row in rows(pack, "discrepancies.csv")}
    assert [row["what"] for row in rows(pack, "decisions.csv")] == ["noted", "proposed"]
    assert rows(pack, "decisions.csv")[1]["reason"].startswith("'=HYPERLINK(1)")
    assert [row["kind"] for row in rows(pack, "cases.csv")] == ["repaired_charge"]
    assert len(rows(pack, "timeline.csv")) > 10


def test_its_hashes_can_be_computed_anew(world: World, tmp_path: Path) -> None:
    """The manifest's of every member, and the topic's of every event."""
    charge = worked_on(world, tmp_path / "in")
    pack = ZipFile(BytesIO(pack_of(charge, world)))

    manifest = json.loads(pack.read("manifest.json"))

    assert manifest["asked_by"] == "ann"
    assert manifest["charge"] == str(charge.pk)
    assert manifest["as_of"] == f"{world.clock.real_now():%Y-%m-%dT%H:%M:%SZ}"
    assert {each["name"] for each in manifest["members"]} == set(pack.namelist()) - {
        "manifest.json"
    }
    for each in manifest["members"]:
        content = pack.read(each["name"])
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (
            each["sha256"],
            each["size"],
        )
    events = rows(pack, "events.csv")
    payloads = {
        hashlib.sha256(pack.read(name)).hexdigest()
        for name in pack.namelist()
        if name.startswith("events/")
    }
    assert events
    assert payloads == {row["SHA-256 of the payload"] for row in events}
    assert payloads == {row["SHA-256 in the topic"] for row in events}


def test_the_same_records_make_the_same_bytes(world: World, tmp_path: Path) -> None:
    charge = worked_on(world, tmp_path / "in")

    first, second = pack_of(charge, world), pack_of(charge, world)
    later = ZipFile(BytesIO(pack_of(charge, world, by="bob", seconds=1)))

    assert first == second
    before = ZipFile(BytesIO(first))
    changed = {name for name in later.namelist() if later.read(name) != before.read(name)}
    # The two that say as of when, and for whom.
    assert changed == {"summary.txt", "manifest.json"}


def test_nothing_in_it_pays_or_names_a_person(world: World, tmp_path: Path) -> None:
    """As in the logs: canaries for a token, a name, an address and a card, wherever somebody wrote them."""
    charge = worked_on(world, tmp_path / "in")
    doubtful = world.due_charge(of=fresh(charge).creator, token=TOKEN, price="199.00")
    world.gateway.answers = [InDoubt(f"garbled answer {CARD} about {TOKEN} of {NAME} {EMAIL}")]
    world.receive(doubtful)

    for each in (charge, doubtful):
        pack = ZipFile(BytesIO(pack_of(each, world)))
        for name in pack.namelist():
            text = pack.read(name).decode()
            for canary in CANARIES:
                assert canary not in text, (name, canary)
    doubt = rows(pack, "attempts.csv")[0]["heard"]
    assert doubt == "garbled answer [card] about [withheld] of [withheld] [withheld]"


def test_no_cell_of_it_is_a_formula(world: World, tmp_path: Path) -> None:
    """R48: amounts and numbers may be negative; whatever somebody wrote begins with no sign."""
    pack = ZipFile(BytesIO(pack_of(worked_on(world, tmp_path / "in"), world)))
    cells = [
        cell
        for name in pack.namelist()
        if name.endswith(".csv")
        for row in csv.reader(StringIO(pack.read(name).decode(), newline=""))
        for cell in row
    ]

    signed = {cell for cell in cells if cell[:1] in set("=+-@\t\r＝＋－＠")}
    assert "'=1+1" in cells
    assert all(Decimal(cell) < 0 for cell in signed)


def test_what_was_asked_and_matched_by_hand_is_in_it(world: World, tmp_path: Path) -> None:
    """An attempt in doubt: each question to the processor, and the line that two people put beside it."""
    attempt = doubtful(world)
    world.gateway.query_answers = [InDoubt(f"no answer about {TOKEN}")]
    rescue.resolve_attempt(
        attempt_id=attempt.pk, clock=world.clock, gateways=world.gateways, ages=world.ages
    )
    (line,) = told(world, tmp_path, "199.00")
    with transaction.atomic():
        approved_match(world, proposed_match(world, [line], [attempt]))

    pack = ZipFile(BytesIO(pack_of(fresh(attempt.charge), world)))

    answers = [row["answer"] for row in rows(pack, "queries.csv")]
    assert len(answers) == 1
    assert answers[0].startswith("no answer to go by")
    assert TOKEN not in answers[0]
    (match,) = rows(pack, "matches.csv")
    assert (match["decision"], match["gross USD"], match["in force"]) == (
        "approved",
        "199.00",
        "yes",
    )
    (shown,) = rows(pack, "statement-lines.csv")
    assert (shown["line id"], shown["matched by hand"]) == (line.line_id, "yes")
    assert [row["what"] for row in rows(pack, "decisions.csv")] == ["proposed", "approved"]
    assert "Matched by two people" in pack.read("summary.txt").decode()


def test_the_summary_explains_the_five_ticks(world: World, tmp_path: Path) -> None:
    charge = worked_on(world, tmp_path / "in")

    text = ZipFile(BytesIO(pack_of(charge, world))).read("summary.txt").decode()

    assert "Captured: DISCREPANT, 19.96 USD" in text
    assert "Under-charge of 0.03 USD" in text
    assert "Statement: proved, 19.96 USD" in text
    for name, meaning in MEANS.items():
        assert f"  {name}: " in text
        assert meaning in text


def test_a_charge_that_is_not_there_has_no_pack(world: World) -> None:
    with pytest.raises(UnknownCharge, match="The admin finds one"), snapshot():
        write_evidence(charge_id=DAY_ID, by="ann", now=world.clock.now(), to=BytesIO())


DAY_ID = "00000000-0000-5000-8000-000000000001"


# --- From the pages ------------------------------------------------------------------------------------


def test_it_is_asked_for_where_the_case_is_looked_at(
    world: World, tmp_path: Path, settings: Any
) -> None:
    settings.EXPORTS_FOLDER = str(tmp_path / "exports")
    charge = worked_on(world, tmp_path / "in")
    doubtful = in_doubt(world)
    link = f"/admin/settlements/exportrun/ask/evidence/?charge={charge.pk}"
    found = Discrepancy.objects.get(code="under_charge")
    pages = [
        reverse("charge_proof", args=[charge.pk]),
        reverse("admin:settlements_discrepancy_change", args=[found.pk]),
        reverse("admin:checkout_case_change", args=[charge.cases.get().pk]),
    ]
    ann = member(ANALYST, name="ann")
    for page in pages:
        assert link in ann.get(page).content.decode(), page
        assert link not in member(VIEWER, name="eve").get(page).content.decode(), page
    assert f"charge={doubtful.pk}" in ann.get(reverse("in_doubt")).content.decode()

    with pages_at(world.clock):
        assert "19.99 USD" in ann.get(link).content.decode()
        ann.post(link, {"form": "zip", "reason": "the processor asks"})
        run = ExportWorker(
            folder=tmp_path / "exports",
            kept=timedelta(days=30),
            clock=world.clock,
            writer_of=writer_of,
            beats=False,
        ).turn()

    assert run is not None
    assert (run.state, run.total, run.failed_because) == (
        ExportState.MADE,
        Decimal("19.99"),
        "",
    )
    answer = ann.post(reverse("admin:settlements_exportrun_download", args=[run.pk]))
    assert f'filename="evidence-{charge.pk}-' in answer["Content-Disposition"]
    assert answer["Content-Type"] == "application/zip"
    pack = ZipFile(BytesIO(b"".join(answer.streaming_content)))  # type: ignore[attr-defined]
    assert json.loads(pack.read("manifest.json"))["asked_by"] == "ann"


def test_a_pack_of_no_charge_is_not_asked_for(world: World) -> None:
    address = reverse("admin:settlements_exportrun_ask", args=["evidence"])
    for query in ("", "charge=aigerim", f"charge={DAY_ID}"):
        page = member(ANALYST, name="ann").get(f"{address}?{query}", follow=True).content.decode()
        assert "Say of which charge" in page
    assert not ExportRun.objects.exists()


# --- By command ----------------------------------------------------------------------------------------


def test_the_command_writes_it_and_says_what(world: World, tmp_path: Path) -> None:
    charge, out = worked_on(world, tmp_path / "in"), tmp_path / "e.zip"
    printed = StringIO()

    call_command(
        "export",
        "evidence",
        "--charge",
        str(charge.pk),
        "--out",
        str(out),
        "--json",
        stdout=printed,
    )

    said = json.loads(printed.getvalue())
    assert said["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert said["members"] == len(ZipFile(out).namelist())
    assert (said["verdict"], said["total_usd"]) == ("discrepant", "19.99")


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("evidence",), "say of which charge, by its id: --charge"),
        (("evidence", "--charge", "Aigerim"), "'Aigerim' is not an id"),
        (("evidence", "--charge", DAY_ID), "There is no charge .* Nothing was written"),
        (("evidence", "--charge", DAY_ID, "--lane", "cis"), "takes no --lane"),
        (("evidence", "--charge", DAY_ID, "--format", "xlsx"), "a ZIP of CSV files"),
        (("charges", "--charge", DAY_ID), "--charge is of the evidence"),
        (("journal", "--month", "2026-01", "--charge", DAY_ID), "--charge is of the evidence"),
    ],
)
def test_what_cannot_be_meant_is_explained(
    arguments: tuple[str, ...], answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(CommandError, match=answer) as refused:
        call_command("export", *arguments)

    assert refused.value.returncode in {1, 2}
    assert not list(tmp_path.iterdir())
