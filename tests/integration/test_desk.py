"""The discrepancy desk: one proposes, another approves exactly that, and the trail says so (R43)."""

from decimal import Decimal

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import Error, connection, transaction
from django.test import Client
from django.urls import reverse

from checkout import ledger
from checkout.gateways import Approved
from checkout.models import Charge, EntryKind, LedgerAccount, LedgerEntry
from settlements import reconciliation, resolving
from settlements.exports.lists import LISTS
from settlements.exports.snapshot import head_of
from settlements.models import (
    STANDING,
    DeskAction,
    Discrepancy,
    Kind,
    Proposal,
    Way,
)
from settlements.readings import open_discrepancies
from settlements.roles import ANALYST, APPROVER, VIEWER
from tests.factories import World
from tests.factories_roles import member
from tests.factories_settlements import edit

pytestmark = pytest.mark.django_db
LIST = "/admin/settlements/discrepancy/"
WHY = "looked at with the processor"


@pytest.fixture
def world() -> World:
    return World()


def captured(world: World, by: str, price: str = "19.99") -> Charge:
    """A charge whose capture differs by this much, found by a pass."""
    world.gateway.answers = [
        lambda request: Approved(request.amount + Decimal(by), "USD", f"ref-{request.reference}")
    ]
    charge = world.due_charge(price=price)
    world.receive(charge)
    find(world)
    return charge


def find(world: World) -> None:
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)


def only(**facts: object) -> Discrepancy:
    return Discrepancy.objects.get(**facts)


def proposed(world: World, *rows: Discrepancy, way: Way = Way.CORRECTED) -> Proposal:
    return resolving.propose(
        discrepancy_ids=[row.pk for row in rows],
        way=way,
        by="ann",
        reason=WHY,
        now=world.clock.now(),
    )


def approved(world: World, proposal: Proposal, *, by: str = "bob", seen: str = "") -> Proposal:
    return resolving.approve(
        proposal_id=proposal.pk,
        seen=seen or proposal.sha256,
        by=by,
        reason=WHY,
        now=world.clock.now(),
    )


# --- One cent short, corrected by two people ---------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "against", "posted"),
    [
        ("-0.03", LedgerAccount.WRITE_OFF, Decimal("0.03")),
        ("0.01", LedgerAccount.UNAPPLIED_RECEIPTS, Decimal("-0.01")),
    ],
)
def test_a_cent_is_corrected_in_the_books_by_two_people(
    world: World, by: str, against: LedgerAccount, posted: Decimal
) -> None:
    """R38, R43: it is posted by an entry that sums to zero, and no pass finds the books wrong."""
    charge = captured(world, by)

    approved(world, proposed(world, only()))

    entry = LedgerEntry.objects.get(charge=charge, kind=EntryKind.CORRECTED)
    assert sum(entry.postings.values_list("amount", flat=True)) == 0
    assert entry.postings.get(account=against).amount == posted
    assert ledger.receivable(charge_id=charge.pk) == 0
    reconciliation.reconcile(clock=world.clock, ages=world.ages)
    assert not Discrepancy.objects.filter(STANDING).exists()
    head = head_of(LISTS["discrepancies"], {"standing": "yes"})
    assert head.rows == 0  # R48: resolved is not standing, on the page and in the export
    # Evidence still shows it; that two people resolved it stays beside.
    row = only()
    assert (row.cleared_at, row.resolved_at is not None) == (None, True)
    assert open_discrepancies() == {}


def test_opened_again_the_entry_is_posted_back(world: World) -> None:
    charge = captured(world, "-0.03")
    approved(world, proposed(world, only()))

    resolving.reopen(
        discrepancy_ids=[only().pk], by="ann", reason="was wrong", now=world.clock.now()
    )

    assert ledger.receivable(charge_id=charge.pk) == Decimal("0.03")
    assert only().is_standing
    find(world)
    assert Discrepancy.objects.count() == 1
    # And corrected once more: another proposal, another entry.
    approved(world, proposed(world, only()))
    assert ledger.receivable(charge_id=charge.pk) == 0
    kinds = LedgerEntry.objects.filter(charge=charge, kind=EntryKind.CORRECTED)
    assert kinds.count() == 3


def test_a_forged_correction_is_named(world: World) -> None:
    """Only what an approved proposal names corrects the books; another entry is a discrepancy."""
    charge = captured(world, "-0.03")
    with transaction.atomic():
        ledger.correct(
            charge=charge,
            receivable=Decimal("-0.03"),
            against=LedgerAccount.WRITE_OFF,
            subject=charge.pk,
            now=world.clock.now(),
        )

    find(world)

    assert only(kind=Kind.LEDGER, code="receivable").difference == Decimal("-0.03")


def test_a_correction_rewritten_in_balance_is_named_though_its_discrepancy_stays_found(
    world: World,
) -> None:
    """R38, R55: what was resolved is found again in every pass, and must hide no later rewriting."""
    charge = captured(world, "-0.03")
    approved(world, proposed(world, only()))
    find(world)

    edit(
        "UPDATE checkout_ledgerposting SET amount = amount + 0.01 * sign(amount) WHERE charge_id = %s"
        " AND entry_id IN (SELECT id FROM checkout_ledgerentry WHERE kind = 'corrected')",
        charge.pk,
    )
    find(world)

    named = Discrepancy.objects.filter(STANDING).values_list("kind", "code", "difference")
    assert sorted(named) == [
        ("ledger", "rewritten", Decimal("-0.01")),
        ("ledger", "rewritten", Decimal("0.01")),
    ]


def test_an_approval_that_was_edited_away_no_longer_covers_its_correction(world: World) -> None:
    """R55: what a pass believes because two people approved it is looked at when they did not."""
    captured(world, "-0.03")
    approved(world, proposed(world, only()))
    find(world)

    edit("UPDATE settlements_proposal SET decision = 'refused'")
    find(world)

    assert only(kind=Kind.LEDGER, code="receivable").difference == Decimal("-0.03")


# --- Four eyes -----------------------------------------------------------------------------------


def test_who_proposes_does_not_approve(world: World) -> None:
    """R43, in the use case and in the database."""
    captured(world, "-0.03")
    proposal = proposed(world, only())

    with pytest.raises(resolving.NotDecidable, match="who proposed it"):
        approved(world, proposal, by="ann")
    with pytest.raises(Error, match="proposal_four_eyes"), transaction.atomic():
        edit_plainly(
            "UPDATE settlements_proposal SET decision = 'refused', decided_by = 'ann',"
            " decided_because = 'mine', decided_at = now()"
        )


def edit_plainly(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_what_changed_since_it_was_proposed_is_not_approved(world: World) -> None:
    """R43: the approver approves exactly what he saw, or nothing."""
    charge = captured(world, "-0.03")
    proposal = proposed(world, only())
    edit(
        "UPDATE checkout_attempt SET captured_amount = 19.90 WHERE charge_id = %s",
        charge.pk,
    )
    find(world)

    with pytest.raises(resolving.NotDecidable, match="has changed"):
        approved(world, proposal)
    # Raw SQL is refused as well.
    with pytest.raises(Error, match="not what was proposed"), transaction.atomic():
        edit_plainly(
            "UPDATE settlements_proposal SET decision = 'approved', decided_by = 'bob',"
            " decided_because = 'sure', decided_at = now()"
        )


def test_what_the_page_did_not_show_is_not_approved(world: World) -> None:
    captured(world, "-0.03")

    with pytest.raises(resolving.NotDecidable, match="page showed something else"):
        approved(world, proposed(world, only()), seen="0" * 64)


def test_two_approvers_at_once_decide_once(world: World) -> None:
    captured(world, "-0.03")
    proposal = proposed(world, only())
    approved(world, proposal)

    with pytest.raises(resolving.NotDecidable, match="approved by bob"):
        approved(world, proposal, by="cem")


def test_a_refused_proposal_frees_its_discrepancies(world: World) -> None:
    captured(world, "-0.03")
    proposal = proposed(world, only())
    with pytest.raises(resolving.NotProposable, match="waits in proposal"):
        proposed(world, only())

    resolving.refuse(proposal_id=proposal.pk, by="bob", reason="ask again", now=world.clock.now())

    assert proposed(world, only()).pk != proposal.pk


# --- What hand may not do -----------------------------------------------------------------------------


def test_a_cent_between_owed_and_captured_is_never_waved_through(world: World) -> None:
    captured(world, "-0.03")

    with pytest.raises(resolving.NotProposable, match="it may be corrected"):
        proposed(world, only(), way=Way.ACCEPTED)


def test_what_evidence_clears_no_hand_resolves(world: World) -> None:
    """R54: the books' own contradictions are mended where they are, not here."""
    charge = captured(world, "-0.03")
    ledger_entry = "UPDATE checkout_ledgerposting SET amount = amount + 1 WHERE charge_id = %s"
    edit(ledger_entry + " AND account = 'clearing'", charge.pk)
    find(world)
    wrong = Discrepancy.objects.filter(kind=Kind.LEDGER, code="unbalanced").get()

    with pytest.raises(resolving.NotProposable, match="evidence alone clears it"):
        proposed(world, wrong, way=Way.ACCEPTED)


def test_no_row_is_resolved_without_an_approved_proposal(world: World) -> None:
    captured(world, "-0.03")
    proposal = proposed(world, only())

    with pytest.raises(Error, match="no approved proposal"), transaction.atomic():
        Discrepancy.objects.update(resolved_at=world.clock.real_now())
    with pytest.raises(Error, match="discrepancy_resolved"), transaction.atomic():
        edit("UPDATE settlements_discrepancy SET resolved_at = now(), proposal_id = NULL")
    assert proposal.decision == ""


def test_the_trail_is_only_added_to(world: World) -> None:
    captured(world, "-0.03")
    approved(world, proposed(world, only()))

    assert list(DeskAction.objects.order_by("id").values_list("kind", "by", "reason")) == [
        ("proposed", "ann", WHY),
        ("approved", "bob", WHY),
    ]
    for sql in (
        "UPDATE settlements_deskaction SET reason = 'other'",
        "DELETE FROM settlements_deskaction",
        "UPDATE settlements_proposal SET reason = 'other'",
        "UPDATE settlements_proposalitem SET actual = actual + 1",
        "DELETE FROM settlements_proposalitem",
    ):
        with pytest.raises(Error, match="never change"), transaction.atomic():
            edit_plainly(sql)


# --- With reconciliation --------------------------------------------------------------------------


def test_a_rewritten_row_that_was_put_back_is_cleared_by_evidence(world: World) -> None:
    """R54: it says again what it said before anybody rewrote it; both are on record."""
    charge = captured(world, "0.00")
    for amount in ("19.96", "19.95", "19.99"):
        edit("UPDATE checkout_charge SET amount = %s WHERE id = %s", amount, charge.pk)
        find(world)

    assert not Discrepancy.objects.filter(STANDING).exists()
    codes = Discrepancy.objects.filter(cleared_because="evidence").values_list("code", flat=True)
    assert sorted(codes) == ["rewritten", "under_charge"]


def test_a_rewritten_row_that_no_other_record_gainsays_is_resolved_at_the_desk(
    world: World,
) -> None:
    """R54: two people may accept what was rewritten; it stands from its first value to its last."""
    charge = captured(world, "0.00")
    for amount in ("19.98", "19.96"):
        edit("UPDATE checkout_attempt SET amount = %s WHERE charge_id = %s", amount, charge.pk)
        find(world)
    left = only(code="rewritten")
    assert (left.expected, left.actual) == (Decimal("19.99"), Decimal("19.96"))

    approved(world, proposed(world, left, way=Way.ACCEPTED))

    reconciliation.reconcile(clock=world.clock, ages=world.ages)
    assert not Discrepancy.objects.filter(STANDING).exists()


def test_found_with_another_amount_it_stands_again(world: World) -> None:
    """Two people resolved 0.03; that says nothing about 0.09."""
    charge = captured(world, "-0.03")
    approved(world, proposed(world, only()))
    edit(
        "UPDATE checkout_attempt SET captured_amount = 19.90 WHERE charge_id = %s",
        charge.pk,
    )

    find(world)

    row = only(kind=Kind.CAPTURED, code="under_charge")
    assert (row.difference, row.is_standing, row.proposal_id) == (Decimal("-0.09"), True, None)
    last = DeskAction.objects.filter(discrepancy=row).order_by("id").last()
    assert last is not None
    assert (last.kind, last.by) == ("reopened", "reconciliation")


# --- The pages ------------------------------------------------------------------------------------


def post(client: Client, action: str, rows: list[int], **answers: str) -> str:
    answer = client.post(
        LIST, {"action": action, ACTION_CHECKBOX_NAME: rows, **answers}, follow=True
    )
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_desk_by_its_pages(world: World) -> None:
    """An analyst assigns, notes and proposes a whole group; an approver sees it and approves."""
    for _ in range(3):
        captured(world, "-0.03")
    rows = list(Discrepancy.objects.values_list("pk", flat=True))
    ann, bob = member(ANALYST, name="ann"), member(APPROVER, name="bob")

    listed = ann.get(LIST, {"standing": "yes"}).content.decode()
    assert "captured · under charge · cis · -0.03 each" in listed
    assert "-0.09 USD" in listed
    cause = ann.get(LIST, {"standing": "yes", "cause": "captured~under_charge~cis~-0.03"})
    assert "3 discrepancies" in cause.content.decode()
    post(ann, "assign", rows, decided="yes", to="ann", reason="mine to look into")
    assert "3 discrepancies" in ann.get(LIST, {"whose": "me"}).content.decode()
    post(ann, "note", rows[:1], decided="yes", reason="asked the processor")
    asked = post(ann, "propose", rows)
    assert "<strong>3</strong> discrepancies" in asked
    assert "<strong>-0.09</strong> USD" in asked
    said = post(ann, "propose", rows, decided="yes", way="corrected", reason="short by the network")
    assert "waits for another person" in said

    proposal = Proposal.objects.get()
    page_url = reverse("admin:settlements_proposal_change", args=[proposal.pk])
    mine = ann.get(page_url).content.decode()
    assert "another person approves it" in mine
    assert 'value="approve"' not in mine
    page = bob.get(page_url).content.decode()
    assert "Approve these 3, -0.09 USD" in page
    assert "receivable -0.03, write off +0.03" in page
    decide = reverse("admin:settlements_proposal_decide", args=[proposal.pk])
    answers = {"seen": proposal.sha256, "reason": "agreed"}
    refused = ann.post(decide, {"decision": "approve", **answers})
    assert refused.status_code == 403
    done = bob.post(decide, {"decision": "approve", **answers}, follow=True).content.decode()
    assert f"Proposal {proposal.pk} is approved" in done
    assert not Discrepancy.objects.filter(STANDING).exists()

    detail = ann.get(reverse("admin:settlements_discrepancy_change", args=[rows[0]]))
    shown = detail.content.decode()
    assert "= Difference" in shown
    assert "asked the processor" in shown
    assert "short by the network" in shown


def test_no_reason_no_decision(world: World) -> None:
    captured(world, "-0.03")
    proposal = proposed(world, only())
    decide = reverse("admin:settlements_proposal_decide", args=[proposal.pk])

    said = member(APPROVER).post(
        decide, {"decision": "approve", "seen": proposal.sha256, "reason": "ok"}, follow=True
    )

    assert "Say why" in said.content.decode()
    assert Proposal.objects.get().decision == ""


def test_who_may_only_look_changes_nothing(world: World) -> None:
    captured(world, "-0.03")
    proposal = proposed(world, only())
    client = member(VIEWER)

    post(client, "note", [only().pk], decided="yes", reason="not mine to write")
    for decision in ("approve", "refuse", "withdraw", "other"):
        decide = reverse("admin:settlements_proposal_decide", args=[proposal.pk])
        assert client.post(decide, {"decision": decision}).status_code == 403
    assert client.get(decide).status_code == 405
    assert DeskAction.objects.filter(kind="noted").count() == 0


@pytest.mark.parametrize(
    "query",
    [
        "standing=no",
        "standing=hand",
        "standing=waiting",
        "age=today",
        "whose=me",
        "cause=captured~state~cis~-0.03",
        "cause=captured~state~cis~no+amount",
        "cause=nonsense",
    ],
)
def test_a_filter_leaves_out_what_it_does_not_name(world: World, query: str) -> None:
    captured(world, "-0.03")

    page = member(VIEWER).get(f"{LIST}?{query}").content.decode()

    left = 1 if query.endswith("nonsense") else 0
    assert f"{left} discrepanc" in page
