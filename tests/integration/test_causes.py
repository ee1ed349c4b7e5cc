"""Groups of one cause: one proposal, one approval, however many there are."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from checkout import ledger
from checkout.gateways import Approved
from checkout.models import Charge, EntryKind, LedgerEntry
from settlements import reconciliation, resolving
from settlements.causes import Cause, cause_named, free_of, groups_of_one_cause
from settlements.models import STANDING, DeskAction, Discrepancy, Proposal, Way, digest_of
from settlements.roles import ANALYST, APPROVER, OPERATOR, VIEWER
from tests.factories import LANE, World
from tests.factories_many import many_captures
from tests.factories_roles import member
from tests.factories_settlements import edit

pytestmark = pytest.mark.django_db
LIST = "/admin/settlements/discrepancy/"
TOGETHER = f"{LIST}together/"
WHY = "short by the network"
SHORT = Cause("captured", "under_charge", LANE, Decimal("-0.03"))


@pytest.fixture
def world() -> World:
    return World()


def short(world: World, count: int) -> None:
    """So many charges of which 0.03 was not captured, found by a pass."""
    world.gateway.answers = [
        lambda request: Approved(
            request.amount - Decimal("0.03"), "USD", f"ref-{request.reference}"
        )
        for _ in range(count)
    ]
    for _ in range(count):
        world.receive(world.due_charge())
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)


def proposed(world: World, *, seen: str = "", way: Way = Way.CORRECTED) -> Proposal:
    return resolving.propose_together(
        cause=SHORT,
        seen=seen or free_of(SHORT).sha256,
        way=way,
        by="ann",
        reason=WHY,
        now=world.clock.now(),
    )


def approve(world: World, proposal: Proposal) -> None:
    resolving.approve(
        proposal_id=proposal.pk,
        seen=proposal.sha256,
        by="bob",
        reason=WHY,
        now=world.clock.now(),
    )


def answers(client: Client, *, reason: str = WHY) -> dict[str, str]:
    """What the page's own button posts."""
    page = client.get(TOGETHER, {"cause": SHORT.parameter}).content.decode()
    [seen] = re.findall(r'<input type="hidden" name="seen" value="([0-9a-f]{64})">', page)
    return {"seen": seen, "way": "corrected", "reason": reason}


def post(client: Client, said: dict[str, str]) -> str:
    answer = client.post(f"{TOGETHER}?cause={SHORT.parameter}", said, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_cause_is_named_by_its_address_and_nothing_else_is() -> None:
    assert cause_named(SHORT.parameter) == SHORT
    for other in ("", "nonsense", "captured~under_charge~cis~no amount", f"{SHORT.parameter}\0"):
        assert cause_named(other) is None


def test_a_group_is_one_proposal_by_its_cause_and_not_by_ids(world: World) -> None:
    """The page names how many and how much; no row of it is in the form."""
    short(world, 3)
    ann = member(ANALYST, name="ann")
    cause = ann.get(LIST, {"standing": "yes", "cause": SHORT.parameter}).content.decode()
    assert "Propose all 3 that wait in no proposal" in cause
    page = ann.get(TOGETHER, {"cause": SHORT.parameter}).content.decode()
    assert "<strong>3</strong> discrepancies" in page
    assert "<strong>-0.09</strong> USD" in page
    assert "_selected_action" not in page

    shown = post(ann, answers(ann))

    proposal = Proposal.objects.get()
    assert (proposal.count, proposal.net, proposal.proposed_by) == (3, Decimal("-0.09"), "ann")
    rows = Discrepancy.objects.values_list("pk", "expected", "actual")
    assert proposal.sha256 == digest_of(Way.CORRECTED, rows)
    assert "Proposed, 3 of net -0.09 USD" in shown
    assert set(DeskAction.objects.values_list("kind", "by", "reason")) == {("proposed", "ann", WHY)}
    # Nothing of it is free any more.
    again = ann.get(LIST, {"standing": "yes", "cause": SHORT.parameter}).content.decode()
    assert "that wait in no proposal" not in again


def test_what_the_page_did_not_show_is_not_proposed(world: World) -> None:
    """R43: one more of the cause was found since; looked at again, it is proposed too."""
    short(world, 1)
    ann = member(ANALYST, name="ann")
    said = answers(ann)
    short(world, 1)

    assert "has changed: look at it again" in post(ann, said)
    assert not Proposal.objects.exists()
    post(ann, answers(ann))
    assert Proposal.objects.get().count == 2


def test_a_reason_is_asked_and_a_way_that_is_none_is_refused(world: World) -> None:
    short(world, 1)
    ann = member(ANALYST, name="ann")

    post(ann, answers(ann, reason="ok"))
    assert "it may be corrected" in post(ann, answers(ann) | {"way": "accepted"})

    assert not Proposal.objects.exists()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("role", [VIEWER, APPROVER, OPERATOR])
def test_a_group_is_an_analyst_s_to_propose(world: World, role: str) -> None:
    short(world, 1)
    client = member(role)

    listed = client.get(LIST, {"standing": "yes", "cause": SHORT.parameter}).content.decode()

    assert "that wait in no proposal" not in listed
    assert client.get(TOGETHER, {"cause": SHORT.parameter}).status_code == 403
    assert client.post(f"{TOGETHER}?cause={SHORT.parameter}").status_code == 403


def test_without_a_cause_one_is_led_back() -> None:
    assert member(ANALYST).get(TOGETHER, {"cause": "nonsense"})["Location"] == LIST


def test_more_than_one_proposal_takes_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("settlements.causes.MOST_TOGETHER", 2)
    short(world, 3)
    ann = member(ANALYST, name="ann")
    listed = ann.get(LIST, {"standing": "yes", "cause": SHORT.parameter}).content.decode()
    assert "Propose the oldest 2 that wait in no proposal" in listed
    page = ann.get(TOGETHER, {"cause": SHORT.parameter}).content.decode()
    assert "More stand than one proposal takes" in page

    post(ann, answers(ann))
    post(ann, answers(ann))

    assert list(Proposal.objects.order_by("id").values_list("count", flat=True)) == [2, 1]


def test_counts_of_the_newest_alone_say_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    short(world, 3)
    whole = member(VIEWER).get(LIST).content.decode()
    assert "of the newest" not in whole

    monkeypatch.setattr("settlements.admin.discrepancies.MOST_COUNTED", 2)
    bounded = member(VIEWER).get(LIST).content.decode()

    assert "Standing, by cause (of the newest 2)" in bounded
    assert groups_of_one_cause(among=2).largest[0].count == 2


def test_the_approver_sees_count_sum_and_digest_of_all_and_the_first_rows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("settlements.admin.proposals.MOST_SHOWN", 2)
    short(world, 3)
    proposal = proposed(world)
    bob = member(APPROVER, name="bob")
    address = reverse("admin:settlements_proposal_change", args=[proposal.pk])

    page = bob.get(address).content.decode()

    assert "Approve these 3, -0.09 USD" in page
    assert proposal.sha256 in page
    assert "The first 2 of 3" in page
    assert page.count("receivable -0.03, write off +0.03") == 2
    behind = bob.get(LIST, {"in_proposal": proposal.pk}).content.decode()
    assert "<strong>3 discrepancies</strong>" in behind
    # What changed beyond the rows that are shown is said all the same.
    last = Discrepancy.objects.order_by("id").last()
    assert last is not None
    edit("UPDATE checkout_attempt SET captured_amount = 19.90 WHERE charge_id = %s", last.charge_id)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    assert "has changed since it was proposed" in bob.get(address).content.decode()


def test_an_entry_more_in_the_books_of_one_refuses_all(world: World) -> None:
    short(world, 2)
    proposal = proposed(world)
    charge = Charge.objects.order_by("id").first()
    assert charge is not None
    ledger.correct(
        charge=charge,
        receivable=Decimal("-0.03"),
        against=resolving.corrected_against(Decimal("-0.03")),
        subject=charge.pk,
        now=world.clock.now(),
    )

    with (
        pytest.raises(resolving.NotDecidable, match=r"by the books 0\.00 USD"),
        transaction.atomic(),
    ):
        approve(world, proposal)

    assert LedgerEntry.objects.filter(kind=EntryKind.CORRECTED).count() == 1


def test_thousands_of_one_cause_are_resolved_by_one_proposal_and_one_approval(
    world: World,
) -> None:
    """In a number of statements that does not grow with them one by one."""
    count = 3_000
    first = world.clock.business_now() - timedelta(days=16)
    many_captures(lanes={LANE: count}, first=first, clock=world.clock)
    edit("UPDATE checkout_attempt SET captured_amount = captured_amount - 0.03")
    edit(
        "UPDATE checkout_ledgerposting p SET amount = amount - 0.03 * sign(amount)"
        " FROM checkout_ledgerentry e WHERE e.id = p.entry_id AND e.kind = 'captured'"
    )
    reconciliation.reconcile(clock=world.clock, ages=world.ages)
    assert free_of(SHORT).count == count

    with CaptureQueriesContext(connection) as asked:
        proposal = proposed(world)
        approve(world, proposal)

    assert len(asked) < 60
    assert (proposal.count, proposal.net) == (count, Decimal("-0.03") * count)
    assert LedgerEntry.objects.filter(kind=EntryKind.CORRECTED).count() == count
    assert not Discrepancy.objects.filter(STANDING, SHORT.condition).exists()
    charges = list(Charge.objects.values_list("pk", flat=True))
    assert set(ledger.receivables(charge_ids=charges).values()) == {Decimal()}
