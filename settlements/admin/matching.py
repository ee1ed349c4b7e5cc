"""Match by hand: the page on which lines and attempts are chosen, and what the desks offer for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import reverse

from checkout import wiring
from checkout.clock import Moment
from checkout.desk import ReasonForm, as_uuid, in_commit, money
from checkout.models import Attempt
from checkout.page import Printed, in_snapshot
from settlements import matching, pairing
from settlements.models import (
    Code,
    Decision,
    Discrepancy,
    Kind,
    LineType,
    MatchedAttempt,
    Proposal,
    StatementLine,
)

MATCHED_BY_HAND: Final = (
    Code.UNMATCHED,
    Code.MISSING,
    Code.DUPLICATE,
    Code.AMOUNT,
    Code.NOT_CAPTURED,
)


class NoSuchId(Exception):
    """What somebody typed is the id of no line, attempt or charge; the message says what is wanted."""


@dataclass(frozen=True)
class Choice:
    """A line or an attempt to choose: its id, what it is, when (business clock), and its USD."""

    id: str
    what: str
    when: str
    usd: str
    is_chosen: bool


@dataclass(frozen=True)
class Chosen:
    """What an address or a form names."""

    line_ids: Sequence[int]
    attempt_ids: Sequence[UUID]


@dataclass(frozen=True)
class Offer:
    """A pair that may belong together, and the address of the form that is filled in with it."""

    what: str
    link: str


# --- The page ----------------------------------------------------------------------------------------


def match_by_hand(request: HttpRequest) -> HttpResponse:
    """For analysts: choose, add up, and propose exactly what the page added up."""
    if not request.user.has_perm("settlements.change_discrepancy"):
        raise PermissionDenied
    if request.method == "POST":
        return _propose(request)
    return in_snapshot(lambda: _page(request, request.GET, ReasonForm()))


def _propose(request: HttpRequest) -> HttpResponse:
    form = ReasonForm(request.POST)
    if not form.is_valid():
        return in_snapshot(lambda: _page(request, request.POST, form))
    by, reason = request.user.get_username(), form.cleaned_data["reason"]
    try:
        chosen = _chosen(request.POST)
        made = in_commit(
            lambda now: matching.propose(
                line_ids=chosen.line_ids,
                attempt_ids=chosen.attempt_ids,
                seen=request.POST.get("seen", ""),
                by=by,
                reason=reason,
                now=now,
                gateways=wiring.gateways(),
                ages=wiring.ages(),
            )
        )
    except (matching.NotMatchable, NoSuchId) as refusal:
        messages.warning(request, f"Nothing was proposed: {refusal}.")
        return in_snapshot(lambda: _page(request, request.POST, form))
    messages.success(request, f"Proposed: {made} waits for another person.")
    return HttpResponseRedirect(reverse("admin:settlements_proposal_change", args=[made.pk]))


def _page(request: HttpRequest, named: QueryDict, form: ReasonForm) -> HttpResponse:
    now = wiring.clock().now()
    chosen, match, refusal = Chosen([], []), None, ""
    try:
        chosen = _chosen(named)
        if chosen.line_ids or chosen.attempt_ids:
            match = matching.draft_match(line_ids=chosen.line_ids, attempt_ids=chosen.attempt_ids)
    except (matching.NotMatchable, NoSuchId) as told:
        refusal = str(told)
    lines, attempts = _lines(chosen, now), _attempts(chosen, now)
    context: dict[str, Any] = admin.site.each_context(request) | {
        "title": "Match by hand",
        "lines": [_line_choice(each, chosen) for each in lines],
        "attempts": [_attempt_choice(each, chosen, now) for each in attempts],
        "chosen": chosen,
        "match": match,
        "difference": f"{match.difference:+,.2f}" if match else "",
        "refusal": refusal,
        "form": form,
        "printed": Printed(
            at=now.real,
            chosen=f"the account {match.lane}" if match else "",
            count=match.count if match else None,
            noun="lines and attempts",
            usd=match.lines_usd if match else None,
        ),
    }
    return TemplateResponse(request, "admin/match.html", context)


def _chosen(named: QueryDict) -> Chosen:
    """Ids that were ticked, and those that were typed; a charge's id takes its attempts that count."""
    line_ids = [*named.getlist("line"), *named.get("more_lines", "").split()]
    attempt_ids = [*named.getlist("attempt"), *named.get("more_attempts", "").split()]
    if bad := next((each for each in line_ids if not each.isdecimal() or len(each) > 18), None):
        raise NoSuchId(f"“{bad}” is no id of a statement line: it is the number in their list")
    found: list[UUID] = []
    for each in attempt_ids:
        wanted = as_uuid(each)
        if wanted is None:
            raise NoSuchId(
                f"“{each}” is no id of an attempt (the merchant reference) or of a charge"
            )
        of_charge = Attempt.objects.filter(
            charge_id=wanted, outcome__in=["open", "captured", "unapplied"]
        )
        found += list(of_charge.order_by("pk").values_list("pk", flat=True)) or [wanted]
    return Chosen(sorted({int(each) for each in line_ids}), sorted(set(found)))


def _lines(chosen: Chosen, now: Moment) -> list[StatementLine]:
    """The chosen ones, then those that are like the chosen attempts, then others of the account."""
    ticked = list(StatementLine.objects.filter(pk__in=chosen.line_ids).select_related("statement"))
    attempts = Attempt.objects.filter(pk__in=chosen.attempt_ids)
    likes = [pairing.like_attempt(each, now=now) for each in attempts]
    lane = likes[0].lane if likes else (ticked[0].statement.lane if ticked else "")
    offered = [line for like in likes for line in pairing.unmatched_lines(like=like)]
    others = pairing.unmatched_lines(lane=lane, most=pairing.MOST_LISTED)
    return list({line.pk: line for line in [*ticked, *offered, *others]}.values())


def _attempts(chosen: Chosen, now: Moment) -> list[Attempt]:
    """The chosen ones, then those that are like the chosen lines, then others of the account."""
    ticked = list(
        Attempt.objects.filter(pk__in=chosen.attempt_ids).select_related("charge__creator")
    )
    lines = StatementLine.objects.filter(pk__in=chosen.line_ids).select_related("statement")
    likes = [pairing.like_line(line) for line in lines]
    lane = likes[0].lane if likes else (ticked[0].lane if ticked else "")
    offered = [
        attempt for like in likes for attempt in pairing.attempts_without_line(now=now, like=like)
    ]
    others = pairing.attempts_without_line(now=now, lane=lane, most=pairing.MOST_LISTED)
    return list({attempt.pk: attempt for attempt in [*ticked, *offered, *others]}.values())


def _line_choice(line: StatementLine, chosen: Chosen) -> Choice:
    named = line.reference or "names nobody"
    return Choice(
        id=str(line.pk),
        what=f"line {line.number} of {line.statement.file_name} ({line.statement.lane}): {named}",
        when=f"{line.booked_at:%Y-%m-%d %H:%M}",
        usd=money(line.gross),
        is_chosen=line.pk in chosen.line_ids,
    )


def _attempt_choice(attempt: Attempt, chosen: Chosen, now: Moment) -> Choice:
    like = pairing.like_attempt(attempt, now=now)
    known = "in doubt" if attempt.is_open else attempt.get_outcome_display().lower()
    return Choice(
        id=str(attempt.pk),
        what=f"{known}, {attempt.charge.creator.external_id} ({attempt.lane})",
        when=f"{like.at:%Y-%m-%d %H:%M}",
        usd=money(like.amount),
        is_chosen=attempt.pk in chosen.attempt_ids,
    )


# --- What a proposal's page shows of a match ----------------------------------------------------------


@dataclass(frozen=True)
class ShownAttempt:
    """An attempt as the approver sees it: what is written of it, and whether that was posted back."""

    row: MatchedAttempt
    known: str
    amount: str
    written: str


def match_of_proposal(proposal: Proposal) -> dict[str, Any]:
    """Exactly what is approved; while it waits, whether it still stands so."""
    seen, refusal = proposal.sha256, ""
    if proposal.decision == Decision.OPEN:
        try:
            seen = matching.present_match(proposal=proposal).sha256
        except matching.NotMatchable as told:
            seen, refusal = "", str(told)
    rows = proposal.matched_attempts.select_related("attempt", "entry", "reversal").order_by("pk")
    shown = [_shown(row) for row in rows]
    lines = list(proposal.matched_lines.select_related("line__statement").order_by("pk"))
    return {
        "seen": seen,
        "is_changed": seen != proposal.sha256,
        "changed_because": refusal,
        "matched_lines": lines,
        "matched_attempts": shown,
        "attempts_usd": money(sum((each.row.amount for each in shown), Decimal())),
        "is_in_force": any(each.row.in_force for each in shown)
        and proposal.decision == Decision.APPROVED,
    }


def _shown(row: MatchedAttempt) -> ShownAttempt:
    return ShownAttempt(
        row=row,
        known="in doubt" if row.was_open else "captured",
        amount=money(row.amount),
        written=matching.written(
            was_open=row.was_open, captured=row.captured, correction=row.correction
        ),
    )


# --- What other pages offer --------------------------------------------------------------------------


def match_link(*, lines: Sequence[int] = (), attempts: Sequence[UUID] = ()) -> str:
    """The address of the page with these chosen."""
    named = [*(("line", str(each)) for each in lines), *(("attempt", str(e)) for e in attempts)]
    return f"{reverse('match_by_hand')}?{urlencode(named)}"


def offers(found: Discrepancy, *, now: Moment) -> list[Offer]:
    """What a discrepancy between us and a statement may be matched with, the likeliest first."""
    if found.kind != Kind.STATEMENT or Code(found.code) not in MATCHED_BY_HAND:
        return []
    if not found.is_standing or found.proposal_id:
        return []
    subject = found.fingerprint.rpartition(":")[2]
    if found.code == Code.UNMATCHED:
        return _offers_for_line(int(subject), now=now)
    if found.code == Code.NOT_CAPTURED:
        # What the line names took nothing, so the line is another's.
        own = _lines_of(UUID(subject))
        return [offer for line_id in own for offer in _offers_for_line(line_id, now=now)]
    return _offers_for_attempt(UUID(subject), now=now)


def _lines_of(attempt_id: UUID) -> list[int]:
    own = StatementLine.objects.filter(key=attempt_id, type=LineType.CHARGE)
    return list(own.order_by("pk").values_list("pk", flat=True))


def _offers_for_line(line_id: int, *, now: Moment) -> list[Offer]:
    line = StatementLine.objects.select_related("statement").filter(pk=line_id).first()
    if line is None or line.type != LineType.CHARGE:
        return []
    pairs = pairing.attempts_without_line(now=now, like=pairing.like_line(line))
    return [
        *(
            Offer(
                f"{'an attempt in doubt' if each.is_open else 'a capture that its file does not show'} "
                f"of {pairing.like_attempt(each, now=now).amount:,.2f} USD",
                match_link(lines=[line_id], attempts=[each.pk]),
            )
            for each in pairs
        ),
        Offer("other attempts", match_link(lines=[line_id])),
    ]


def _offers_for_attempt(attempt_id: UUID, *, now: Moment) -> list[Offer]:
    attempt = Attempt.objects.filter(pk=attempt_id).first()
    if attempt is None:
        return []
    lines = pairing.unmatched_lines(like=pairing.like_attempt(attempt, now=now))
    return [
        *(
            Offer(
                f"an unmatched line of {line.gross:,.2f} USD",
                match_link(lines=[line.pk], attempts=[attempt_id]),
            )
            for line in lines
        ),
        Offer("other lines", match_link(lines=_lines_of(attempt_id), attempts=[attempt_id])),
    ]
