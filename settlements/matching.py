"""Matching by hand: two people say which statement lines tell of which attempts (R42, R43).

What nothing could match, or was matched wrongly, is put together by one person and approved by another:
one line and several attempts, or several lines and one attempt. A difference between the sides is
corrected in the books with the same approval, borne by the largest attempt. An attempt in doubt is
captured through the one way in. From then on the comparisons believe the match, until a row of it
changes. Every function runs in the caller's transaction; the triggers of migration 0033 hold the rest.
"""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

from django.db import IntegrityError, transaction

from checkout import ledger
from checkout.clock import Ages, Moment
from checkout.gateways import Approved, Gateway
from checkout.models import Attempt, Creator, LedgerEntry
from checkout.money import CENT, CURRENCY
from checkout.moves import locked_attempt
from checkout.outcomes import record_outcome
from checkout.verdicts import NotInDoubt, require_silence
from settlements.models import (
    BELIEVED,
    NOTHING,
    STANDING,
    ActionKind,
    Code,
    Decision,
    Discrepancy,
    ImportState,
    Kind,
    LineType,
    MatchedAttempt,
    MatchedLine,
    ProofMark,
    Proposal,
    SettlementLine,
    StatementLine,
    Way,
)
from settlements.resolving import (
    NotDecidable,
    corrected_against,
    lock_discrepancies,
    lock_undecided,
    record_actions,
    record_decision,
)

logger = logging.getLogger(__name__)

# Rows of one match: as many as a person can look at.
MOST_ROWS: Final = 200
# What a pass may have found about an attempt and its lines; a match settles it.
_ABOUT_ATTEMPTS: Final = (
    Code.MISSING,
    Code.DUPLICATE,
    Code.AMOUNT,
    Code.LANE,
    Code.FEE,
    Code.NOT_CAPTURED,
)


class NotMatchable(Exception):
    """These lines and attempts cannot be matched so; the message says why, and what to choose."""


def written(*, was_open: bool, captured: Decimal, correction: Decimal) -> str:
    """What an approval writes of an attempt, in words."""
    parts = [f"captured with {captured:,.2f}"] if was_open else []
    if correction:
        moved = "receivable" if was_open else "clearing"
        against = corrected_against(correction).label.lower()
        parts.append(f"{moved} {correction:+,.2f}, {against} {-correction:+,.2f} posted")
    return "; ".join(parts) or "nothing"


@dataclass(frozen=True)
class Part:
    """An attempt of a match; USD. `amount`: what it captured or, in doubt, what was asked for."""

    attempt: Attempt
    amount: Decimal
    correction: Decimal

    @property
    def was_open(self) -> bool:
        return self.attempt.is_open

    @property
    def captured(self) -> Decimal:
        """What the attempt holds once the match is approved."""
        return self.amount + self.correction if self.was_open else self.amount

    @property
    def row(self) -> str:
        known = f"in doubt, sent {self.attempt.sends} times" if self.was_open else "captured"
        amounts = f"{self.amount:.2f} {self.correction:.2f} {self.captured:.2f}"
        return f"attempt {self.attempt.pk} {known}: {amounts}"

    @property
    def written(self) -> str:
        return written(was_open=self.was_open, captured=self.captured, correction=self.correction)


@dataclass(frozen=True)
class Match:
    """What would be matched: lines of one processor account, and attempts of it; USD."""

    lane: str
    lines: Sequence[StatementLine]
    parts: Sequence[Part]

    @property
    def count(self) -> int:
        return len(self.lines) + len(self.parts)

    @property
    def lines_usd(self) -> Decimal:
        return sum((line.gross for line in self.lines), NOTHING)

    @property
    def attempts_usd(self) -> Decimal:
        return sum((part.amount for part in self.parts), NOTHING)

    @property
    def difference(self) -> Decimal:
        return self.lines_usd - self.attempts_usd

    @property
    def sha256(self) -> str:
        """Over the account and every row: two equal digests, the same match."""
        lines = [f"line {line.pk} of {line.key}: {line.gross:.2f}" for line in self.lines]
        rows = sorted([*lines, *(part.row for part in self.parts)])
        text = "\n".join([str(Way.MATCHED), self.lane, *rows])
        return hashlib.sha256(text.encode()).hexdigest()


# --- What would be matched -------------------------------------------------------------------------


def draft_match(
    *,
    line_ids: Collection[int],
    attempt_ids: Collection[UUID],
    proposal: Proposal | None = None,
) -> Match:
    """What matching these would say and write, as they stand now; nothing is written.

    Of `proposal` itself the rows are not in the way. Raises NotMatchable.
    """
    lines = list(
        StatementLine.objects.filter(pk__in=line_ids).select_related("statement").order_by("pk")
    )
    attempts = list(
        Attempt.objects.filter(pk__in=attempt_ids).select_related("charge").order_by("pk")
    )
    _require_all(set(line_ids) - {line.pk for line in lines}, "statement line")
    _require_all(set(attempt_ids) - {attempt.pk for attempt in attempts}, "attempt")
    _require_shape(lines, attempts)
    for line in lines:
        _require_capture_line(line)
    for attempt in attempts:
        _require_capture_or_doubt(attempt)
    lane = _one_lane(lines, attempts)
    _require_free(lines, attempts, proposal)
    _require_nothing_beside(lines, attempts)
    return Match(lane, lines, _parts(lines, attempts))


def _require_all(missing: Collection[object], noun: str) -> None:
    if missing:
        raise NotMatchable(f"there is no {noun} {min(map(str, missing))}")


def _require_shape(lines: Sequence[StatementLine], attempts: Sequence[Attempt]) -> None:
    if not lines or not attempts:
        raise NotMatchable("choose at least one statement line and at least one attempt")
    if len(lines) > 1 and len(attempts) > 1:
        raise NotMatchable(
            f"{len(lines)} lines and {len(attempts)} attempts do not say which is whose: make a match "
            "for each line, or for each attempt"
        )
    if len(lines) + len(attempts) > MOST_ROWS:
        raise NotMatchable(f"choose at most {MOST_ROWS} rows: nobody looks at more")


def _require_capture_line(line: StatementLine) -> None:
    if line.type != LineType.CHARGE or line.gross < CENT:
        raise NotMatchable(
            f"line {line.pk} is a {line.type} of {line.gross:,.2f}: only lines of charges are matched"
        )
    if line.statement.state != ImportState.ACCEPTED:
        raise NotMatchable(
            f"the file of line {line.pk} is set aside and proves nothing yet: get it accepted first"
        )


def _require_capture_or_doubt(attempt: Attempt) -> None:
    if not attempt.is_open and not attempt.has_capture:
        raise NotMatchable(
            f"attempt {attempt.pk} ended as {attempt.get_outcome_display().lower()}: choose one that is "
            "captured or in doubt"
        )


def _one_lane(lines: Sequence[StatementLine], attempts: Sequence[Attempt]) -> str:
    lanes = sorted({line.statement.lane for line in lines} | {each.lane for each in attempts})
    if len(lanes) > 1:
        raise NotMatchable(
            f"these are of the accounts {' and '.join(lanes)}: a match is of one processor account"
        )
    return lanes[0]


def _require_free(
    lines: Sequence[StatementLine], attempts: Sequence[Attempt], proposal: Proposal | None
) -> None:
    own = proposal.pk if proposal else None
    taken_line = MatchedLine.objects.filter(line__in=lines, in_force=True).exclude(proposal=own)
    if line := taken_line.order_by("pk").first():
        raise NotMatchable(f"line {line.line_id} is in proposal {line.proposal_id} already")
    taken = MatchedAttempt.objects.filter(attempt__in=attempts, in_force=True).exclude(proposal=own)
    if attempt := taken.order_by("pk").first():
        raise NotMatchable(
            f"attempt {attempt.attempt_id} is in proposal {attempt.proposal_id} already"
        )


def _require_nothing_beside(lines: Sequence[StatementLine], attempts: Sequence[Attempt]) -> None:
    """No line that names a chosen attempt is left out, and none is taken from whom it proves."""
    chosen, named = {line.pk for line in lines}, {line.key for line in lines}
    ids = {attempt.pk for attempt in attempts}
    for line in _own_lines(ids):
        if line.pk not in chosen:
            raise NotMatchable(
                f"line {line.pk} names attempt {line.key}, too: choose it as well, or it would count twice"
            )
    is_pair = len(lines) == len(attempts) == 1 and named == ids
    if is_pair and attempts[0].captured_amount == lines[0].gross:
        raise NotMatchable(f"line {lines[0].pk} and its attempt agree already")
    for other in Attempt.objects.filter(pk__in=named - ids, captured_amount__isnull=False):
        told = list(_own_lines({other.pk}))
        if len(told) == 1 and told[0].gross == other.captured_amount:
            raise NotMatchable(
                f"line {told[0].pk} proves attempt {other.pk} to the cent: choose another line"
            )


def _own_lines(attempt_ids: Collection[UUID]) -> Sequence[StatementLine]:
    """Lines of accepted files that name these attempts, but for those that a match holds elsewhere."""
    named = StatementLine.objects.filter(
        key__in=attempt_ids, type=LineType.CHARGE, statement__state=ImportState.ACCEPTED
    )
    elsewhere = MatchedLine.objects.filter(BELIEVED, key__in=attempt_ids)
    return list(named.exclude(pk__in=elsewhere.values("line_id")).order_by("pk"))


def _parts(lines: Sequence[StatementLine], attempts: Sequence[Attempt]) -> list[Part]:
    """The largest attempt bears the difference; of equal ones that of the lowest id."""
    amounts = {each.pk: each.captured_amount or each.amount for each in attempts}
    gross = sum((line.gross for line in lines), NOTHING)
    difference = gross - sum(amounts.values(), NOTHING)
    bearer = min(attempts, key=lambda each: (-amounts[each.pk], each.pk))
    if amounts[bearer.pk] + difference < CENT:
        raise NotMatchable(
            f"a difference of {difference:+,.2f} leaves nothing of the largest attempt: choose other rows"
        )
    return [
        Part(each, amounts[each.pk], difference if each is bearer else NOTHING) for each in attempts
    ]


# --- Propose, approve, take apart ------------------------------------------------------------------


def propose(
    *,
    line_ids: Collection[int],
    attempt_ids: Collection[UUID],
    seen: str,
    by: str,
    reason: str,
    now: Moment,
    gateways: Mapping[str, Gateway],
    ages: Ages,
) -> Proposal:
    """Propose that these lines tell of these attempts; another person decides. Raises NotMatchable.

    `seen` is the digest that the page showed: what changed since is not proposed.
    """
    owners = Attempt.objects.filter(pk__in=attempt_ids).values_list("creator_id", flat=True)
    Creator.lock(owners)
    match = draft_match(line_ids=line_ids, attempt_ids=attempt_ids)
    if seen != match.sha256:
        raise NotMatchable("something of it changed since the page was shown: look at it again")
    _require_silences(match, now=now, gateways=gateways, ages=ages)
    rows = _discrepancies_about(match)
    for row in rows:
        if row.proposal_id:
            raise NotMatchable(
                f"discrepancy {row.pk} waits in proposal {row.proposal_id}: let that be decided first"
            )
    proposal = Proposal.objects.create(
        way=Way.MATCHED,
        reason=reason,
        count=match.count,
        net=match.difference,
        absolute=match.lines_usd,
        sha256=match.sha256,
        proposed_by=by,
        proposed_at=now.real,
    )
    _store(proposal, match)
    Discrepancy.objects.filter(pk__in=[row.pk for row in rows]).update(proposal=proposal)
    record_actions(
        [*rows, None], ActionKind.PROPOSED, by=by, reason=reason, now=now, proposal=proposal
    )
    return proposal


def _require_silences(
    match: Match, *, now: Moment, gateways: Mapping[str, Gateway], ages: Ages
) -> None:
    """No attempt in doubt may still be under way: its own answer may yet come (R21)."""
    for part in match.parts:
        if part.was_open:
            try:
                require_silence(part.attempt, now=now, gateways=gateways, ages=ages)
            except NotInDoubt as refusal:
                raise NotMatchable(f"attempt {part.attempt.pk}: {refusal}") from refusal


def _discrepancies_about(match: Match) -> list[Discrepancy]:
    """What stands about the lines and the attempts, locked."""
    names = [f"{Kind.STATEMENT}:{Code.UNMATCHED}:{line.pk}" for line in match.lines]
    names += [
        f"{Kind.STATEMENT}:{code}:{part.attempt.pk}"
        for part in match.parts
        for code in _ABOUT_ATTEMPTS
    ]
    standing = Discrepancy.objects.filter(STANDING, fingerprint__in=names)
    return lock_discrepancies(standing.values_list("pk", flat=True))


def _store(proposal: Proposal, match: Match) -> None:
    """Two people may choose one line at once: the second waits for the first, and is refused here."""
    try:
        with transaction.atomic():
            MatchedLine.objects.bulk_create(
                MatchedLine(proposal=proposal, line=line, key=line.key, gross=line.gross)
                for line in match.lines
            )
            MatchedAttempt.objects.bulk_create(
                MatchedAttempt(
                    proposal=proposal,
                    attempt=part.attempt,
                    creator_id=part.attempt.creator_id,
                    was_open=part.was_open,
                    amount=part.amount,
                    correction=part.correction,
                    captured=part.captured,
                )
                for part in match.parts
            )
    except IntegrityError as error:
        raise NotMatchable(
            "one of these was matched by somebody else at this moment: look at it again"
        ) from error


def present_match(*, proposal: Proposal) -> Match:
    """A proposed match as its rows stand now. Raises NotMatchable when they cannot be matched any more."""
    return draft_match(
        line_ids=list(proposal.matched_lines.values_list("line_id", flat=True)),
        attempt_ids=list(proposal.matched_attempts.values_list("attempt_id", flat=True)),
        proposal=proposal,
    )


def approve(
    *,
    proposal_id: int,
    seen: str,
    by: str,
    reason: str,
    now: Moment,
    gateways: Mapping[str, Gateway],
    ages: Ages,
) -> Proposal:
    """Match what another person proposed, exactly as this one saw it; `seen` is the page's digest.

    Attempts in doubt are captured, a difference is posted, into the open day. Raises NotDecidable if
    it was decided, if the same person proposed it, or if a row of it changed.
    """
    rows = MatchedAttempt.objects.filter(proposal_id=proposal_id)
    Creator.lock(rows.values_list("creator_id", flat=True))
    proposal = lock_undecided(proposal_id)
    if proposal.proposed_by == by:
        raise NotDecidable("who proposed it does not approve it")
    try:
        match = present_match(proposal=proposal)
        _require_silences(match, now=now, gateways=gateways, ages=ages)
    except NotMatchable as refusal:
        raise NotDecidable(f"{refusal}; withdraw it and propose anew") from refusal
    if match.sha256 != proposal.sha256:
        raise NotDecidable("what it is about has changed: withdraw it and propose anew")
    if seen != proposal.sha256:
        raise NotDecidable("the page showed something else: look at it again")
    for part in match.parts:
        entry = _write(part, match, proposal, now=now, ages=ages)
        rows.filter(attempt=part.attempt).update(entry=entry)
    found = lock_discrepancies(proposal.discrepancies.values_list("pk", flat=True))
    record_decision(proposal, Decision.APPROVED, by=by, reason=reason, now=now)
    _mark_settlements(match)
    # Evidence clears them: the next pass believes the match.
    Discrepancy.objects.filter(proposal=proposal).update(proposal=None)
    record_actions(
        [*found, None], ActionKind.APPROVED, by=by, reason=reason, now=now, proposal=proposal
    )
    return proposal


def _write(
    part: Part, match: Match, proposal: Proposal, *, now: Moment, ages: Ages
) -> LedgerEntry | None:
    """What follows for one attempt; returns the entry of its correction."""
    if part.was_open:
        reference = match.lines[0].processor_reference or f"two people, proposal {proposal.pk}"
        record_outcome(
            attempt_id=part.attempt.pk,
            answer=Approved(part.captured, CURRENCY, reference),
            sends=part.attempt.sends,
            receive=None,
            now=now,
            ages=ages,
        )
    if not part.correction:
        return None
    charge, attempt = locked_attempt(part.attempt.pk)
    against = corrected_against(part.correction)
    subject = uuid5(attempt.pk, f"match:{proposal.pk}")
    if not part.was_open:
        return ledger.correct_clearing(
            charge=charge,
            attempt=attempt,
            amount=part.correction,
            against=against,
            subject=subject,
            now=now,
        )
    books = ledger.receivable(charge_id=charge.pk)
    if books != -part.correction:
        raise NotDecidable(
            f"with {part.captured:,.2f} captured, {books:,.2f} USD would be receivable of charge "
            f"{charge.pk}, not {-part.correction:,.2f}: look at its proof"
        )
    return ledger.correct(
        charge=charge, receivable=part.correction, against=against, subject=subject, now=now
    )


def _mark_settlements(match: Match) -> None:
    """The lines may sit in payouts that landed long ago: their settlements may be proved now."""
    told = SettlementLine.objects.filter(
        attempt__in=[part.attempt for part in match.parts], statement_line__isnull=True
    )
    settlements = told.order_by("settlement_id").values_list("settlement_id", flat=True).distinct()
    ProofMark.objects.bulk_create(ProofMark(settlement_id=each) for each in settlements)


def take_apart(*, proposal_id: int, by: str, reason: str, now: Moment) -> Proposal:
    """Let an approved match be believed no more; what it posted is posted back.

    What was captured stays captured: the next pass finds both sides again. Raises NotDecidable.
    """
    rows = MatchedAttempt.objects.filter(proposal_id=proposal_id).order_by("pk")
    Creator.lock(rows.values_list("creator_id", flat=True))
    proposal = Proposal.objects.select_for_update(no_key=True).get(pk=proposal_id)
    in_force = list(rows.filter(in_force=True).select_related("entry__charge"))
    if proposal.decision != Decision.APPROVED or not in_force:
        raise NotDecidable("it is no match in force")
    for row in in_force:
        if row.entry is not None:
            row.reversal = _posted_back(row.entry, now)
        row.in_force = False
        row.save(update_fields=["in_force", "reversal"])
    proposal.matched_lines.update(in_force=False)
    record_actions([None], ActionKind.REOPENED, by=by, reason=reason, now=now, proposal=proposal)
    logger.info("match taken apart", extra={"proposal": proposal.pk, "by": by})
    return proposal


def _posted_back(entry: LedgerEntry, now: Moment) -> LedgerEntry:
    try:
        return ledger.reverse(entry=entry, now=now)
    except ledger.Unbalanced as broken:
        raise NotDecidable(
            f"somebody changed the postings of entry {entry.pk} outside of this service: have them mended "
            "first, and then they are posted back"
        ) from broken
