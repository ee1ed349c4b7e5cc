"""Match by hand on its pages: offered, chosen, added up, proposed, approved by another (R43)."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from checkout.models import AttemptOutcome
from settlements.models import STANDING, Discrepancy, Proposal, StatementLine
from settlements.roles import ANALYST, APPROVER, VIEWER
from tests.factories import World
from tests.factories_matches import WHY, doubtful, find, match_of, paid, proposed_match, told
from tests.factories_roles import member
from tests.situations import FUNDS

pytestmark = pytest.mark.django_db
PAGE = "/admin/match/"


@pytest.fixture
def world() -> World:
    return World()


def shown(client: Client, address: str, **query: Any) -> str:
    answer = client.get(address, query)
    assert answer.status_code == 200, address
    return re.sub(r"\s+", " ", answer.content.decode())


def page_of(proposal: Proposal) -> str:
    return reverse("admin:settlements_proposal_change", args=[proposal.pk])


def decide(client: Client, proposal: Proposal, decision: str, seen: str = "") -> str:
    answer = client.post(
        reverse("admin:settlements_proposal_decide", args=[proposal.pk]),
        {"decision": decision, "seen": seen or proposal.sha256, "reason": WHY},
        follow=True,
    )
    return re.sub(r"\s+", " ", answer.content.decode())


def test_a_line_of_a_declined_attempt_is_offered_with_another_attempt(
    world: World, tmp_path: Path
) -> None:
    """What the line names took nothing: it is the line that is matched, never that attempt."""
    attempt = doubtful(world)
    world.gateway.answers = [FUNDS]
    world.receive(declined := world.due_charge())
    told(world, tmp_path, named=[(declined.attempts.get(), "199.00")])
    found = Discrepancy.objects.get(code="not_captured")
    ann = member(ANALYST, name="ann")

    page = shown(ann, reverse("admin:settlements_discrepancy_change", args=[found.pk]))

    line = StatementLine.objects.get(gross="199.00")
    assert f"{PAGE}?line={line.pk}&amp;attempt={attempt.pk}" in page
    assert f"attempt={declined.attempts.get().pk}" not in page
    assert "Propose this match" in shown(ann, PAGE, line=line.pk, attempt=attempt.pk)


def test_a_pair_is_offered_matched_and_approved(world: World, tmp_path: Path) -> None:
    """An analyst comes from the discrepancy or from the in-doubt desk, to a form that is filled in."""
    attempt = doubtful(world)
    (line,) = told(world, tmp_path, "199.00")
    found = Discrepancy.objects.get(code="unmatched")
    ann, bob = member(ANALYST, name="ann"), member(APPROVER, name="bob")
    desk = reverse("admin:settlements_discrepancy_change", args=[found.pk])
    link = f"{PAGE}?line={line.pk}&amp;attempt={attempt.pk}"

    page = shown(ann, desk)
    assert "It may belong with an attempt in doubt of 199.00 USD" in page
    assert link in page
    assert link not in shown(member(VIEWER), desk)
    doubt = shown(ann, "/admin/in-doubt/")
    assert "an unmatched line of 199.00 USD" in doubt
    assert link in doubt
    form = shown(ann, PAGE, line=line.pk, attempt=attempt.pk)
    assert "Propose this match: 2 rows, 199.00 USD, difference +0.00" in form
    assert "captured with 199.00" in form
    seen = match_of([line], [attempt]).sha256
    assert seen in form
    chosen = {"line": [str(line.pk)], "attempt": [str(attempt.pk)], "seen": seen}
    assert "This field is required" in ann.post(PAGE, chosen).content.decode()
    said = ann.post(PAGE, {**chosen, "reason": WHY}, follow=True).content.decode()
    assert "waits for another person" in said

    proposal = Proposal.objects.get()
    assert "another person approves it" in shown(ann, page_of(proposal))
    assert f"proposal {proposal.pk}</a> by ann waits" in shown(ann, "/admin/in-doubt/")
    page = shown(bob, page_of(proposal))
    assert "Match these 2, 199.00 USD, difference +0.00" in page
    assert str(attempt.pk) in page
    assert proposal.sha256 in page
    assert "is approved" in decide(bob, proposal, "approve")
    attempt.refresh_from_db()
    assert attempt.outcome == AttemptOutcome.CAPTURED
    find(world)
    assert not Discrepancy.objects.filter(STANDING).exists()
    proof = shown(ann, reverse("charge_proof", args=[attempt.charge_id]))
    assert f"Matched by two people in proposal {proposal.pk}" in proof
    assert f"match {proposal.pk} approved: {WHY}" in proof
    assert WHY in shown(ann, "/admin/settlements/deskaction/")


def test_a_difference_is_stated_where_it_is_proposed_and_where_it_is_approved(
    world: World, tmp_path: Path
) -> None:
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.96", without=[attempt])
    ann, bob = member(ANALYST, name="ann"), member(APPROVER, name="bob")

    form = shown(ann, PAGE, line=line.pk, more_attempts=attempt.charge_id)
    assert "corrected in the books, borne by the largest attempt" in form
    assert "clearing -0.03, write off +0.03 posted" in form
    proposal = proposed_match(world, [line], [attempt])
    page = shown(bob, page_of(proposal))
    assert "-0.03 USD</span>, corrected in the books with this approval" in page
    assert "clearing -0.03, write off +0.03 posted" in page
    decide(bob, proposal, "approve")

    assert "Take it apart" in shown(ann, page_of(proposal))
    assert "Take it apart" not in shown(bob, page_of(proposal))
    apart = reverse("admin:settlements_proposal_take_apart", args=[proposal.pk])
    assert bob.post(apart, {"reason": WHY}).status_code == 403
    assert ann.get(apart).status_code == 405
    assert "Say why" in ann.post(apart, {"reason": ""}, follow=True).content.decode()
    assert "is taken apart" in ann.post(apart, {"reason": WHY}, follow=True).content.decode()
    assert "posted back" in shown(ann, page_of(proposal))
    again = ann.post(apart, {"reason": WHY}, follow=True).content.decode()
    assert "it is no match in force" in again


def test_what_cannot_be_matched_is_refused_with_what_to_choose(
    world: World, tmp_path: Path
) -> None:
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.99", without=[attempt])
    ann = member(ANALYST, name="ann")

    assert "Choose one line and its attempts" in shown(ann, PAGE)
    alike = shown(ann, PAGE, line=line.pk)
    assert "choose at least one statement line and at least one attempt" in alike.lower()
    assert str(attempt.pk) in alike
    for query, why in (
        ({"more_lines": "abc"}, "is no id of a statement line"),
        ({"more_attempts": "abc"}, "is no id of an attempt"),
        ({"more_lines": "9" * 30}, "is no id of a statement line"),
        ({"line": line.pk, "more_attempts": str(attempt.creator_id)}, "There is no attempt"),
    ):
        assert why in shown(ann, PAGE, **query)
    stale = {"line": [str(line.pk)], "attempt": [str(attempt.pk)], "seen": "0", "reason": WHY}
    assert "changed since the page was shown" in ann.post(PAGE, stale).content.decode()
    assert not Proposal.objects.exists()


def test_a_match_is_refused_or_withdrawn_and_its_rows_are_free(
    world: World, tmp_path: Path
) -> None:
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.99", without=[attempt])
    ann, bob = member(ANALYST, name="ann"), member(APPROVER, name="bob")
    proposal = proposed_match(world, [line], [attempt])
    assert "is in proposal" in shown(ann, PAGE, line=line.pk, attempt=attempt.pk)

    assert (
        ann.post(
            reverse("admin:settlements_proposal_decide", args=[proposal.pk]),
            {"decision": "approve"},
        ).status_code
        == 403
    )
    assert "is refused" in decide(bob, proposal, "refuse")
    other = proposed_match(world, [line], [attempt])
    assert "is withdrawn" in decide(ann, other, "withdraw")

    assert "Propose this match" in shown(ann, PAGE, line=line.pk, attempt=attempt.pk)


def test_a_match_that_changed_says_so_and_cannot_be_approved(world: World, tmp_path: Path) -> None:
    attempt = doubtful(world)
    (line,) = told(world, tmp_path, "199.00")
    proposal = proposed_match(world, [line], [attempt])
    attempt.change(sends=2)
    bob = member(APPROVER, name="bob")

    page = shown(bob, page_of(proposal))

    assert "has changed since it was proposed" in page
    assert 'value="approve"' not in page
    assert "has changed" in decide(bob, proposal, "approve")
