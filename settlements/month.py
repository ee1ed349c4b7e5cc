"""A month in two equations, each with a remainder that is computed and must be 0.00.

**Billed**, by billing date: what terms and calendar say was owed = succeeded + under way + in doubt +
exhausted + voided + written off, as the charges stand now. The remainder is what the comparison of
billing found about these charges and nobody cleared.

**Landed**: captured + corrected + refunds + disputes + fees + adjustments and reserves + not paid out before the
month - not paid out at its end = bank. Captures count by their booking day in the lane's zone, by our
own records; lines by the same days, by accepted files; what left by the value date of its payout line;
the bank by the value date of its entry, else its booking date. Amounts are USD and signed: what the
processor keeps is below zero. Not paid out is what was captured on days of the month that have no
accepted file yet, the processors' own balances, and payouts on their way. A charge that was billed in
one month and captured in the next is in `succeeded` of the first and `captured` of the second.

Charges, attempts and payouts come from kept figures (R47); lines beside charges from an index of their
own. Only a file that is not gathered yet, names no payouts or reaches over the month's edge is read
line by line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from django.db import connection
from django.db.models import (
    Case,
    CharField,
    Count,
    DecimalField,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Coalesce, Concat

from checkout import tallies
from checkout.clock import DAY, start_and_end
from checkout.gateways import DeclineClass
from checkout.models import ChargeState
from checkout.tallies import Tally
from settlements.expectations import on_lane_days
from settlements.models import (
    NOTHING,
    STANDING,
    Code,
    Decision,
    Discrepancy,
    ImportState,
    Kind,
    LineType,
    MatchedAttempt,
    MatchedLine,
    Payout,
    PayoutCredit,
    StatementLine,
    Way,
)

FEE_LINES: Final = (LineType.FEE, LineType.DISPUTE_FEE)


@dataclass(frozen=True)
class Billed:
    """What was billed in a month, by billing date, and the state of it now; USD."""

    owed: Decimal
    states: Mapping[str, Tally]

    @property
    def count(self) -> int:
        return sum(tally.count for tally in self.states.values())

    @property
    def remainder(self) -> Decimal:
        """What was owed and no state accounts for; below zero, more was billed than owed."""
        return self.owed - sum((tally.usd for tally in self.states.values()), NOTHING)


@dataclass(frozen=True)
class Held:
    """What processors and banks had not passed on at the end of a day, USD; of a lane's files one counts."""

    balance: Tally
    on_the_way: Tally


@dataclass(frozen=True)
class Landed:
    """How what was captured in a month became money at the bank. USD, signed; see the module.

    `told` is what we captured on days that have an accepted file, `charges` what those files say of it,
    `corrected` what two people booked of the difference, with matches by hand, `corrected_lines` what they
    booked without one, as the files say it;
    `paid` is what payout lines say has left, `left` what the payouts of those days hold; `at_bank` what
    banks kept of payouts that landed, as two people accepted it.
    """

    told: Tally
    corrected: Tally
    corrected_lines: Tally
    awaiting: Tally
    charges: Tally
    refunds: Tally
    disputes: Tally
    fees: Tally
    others: Tally
    paid: Tally
    left: Tally
    before: Held
    after: Held
    bank: Tally
    at_bank: Tally

    @property
    def captured(self) -> Tally:
        count = self.told.count + self.awaiting.count
        return Tally(count, self.told.usd + self.awaiting.usd)

    @property
    def kept(self) -> Decimal:
        """What lines other than charges and payouts add or take."""
        return self.refunds.usd + self.disputes.usd + self.fees.usd + self.others.usd

    @property
    def booked_of_it(self) -> Decimal:
        """What two people booked of the difference between captures and files, either way."""
        return self.corrected.usd + self.corrected_lines.usd

    @property
    def remainder(self) -> Decimal:
        held_before = self.before.balance.usd + self.before.on_the_way.usd
        held_after = self.awaiting.usd + self.after.balance.usd + self.after.on_the_way.usd
        captured = self.captured.usd + self.booked_of_it
        kept = self.kept + self.at_bank.usd
        return captured + kept + held_before - held_after - self.bank.usd

    @property
    def causes(self) -> Mapping[str, Decimal]:
        """What the remainder consists of; they add up to it, whatever was edited by hand."""
        lines = self.charges.usd + self.kept - self.paid.usd
        way = self.before.on_the_way.usd - self.after.on_the_way.usd
        return {
            "captured by our records, less what the files charge on the same days": (
                self.told.usd + self.booked_of_it - self.charges.usd
            ),
            "balances of the files that do not follow from their lines": (
                self.before.balance.usd + lines - self.after.balance.usd
            ),
            "payout lines that no payout holds: not gathered yet, or without a name": (
                self.paid.usd - self.left.usd
            ),
            "payouts that left, less what the bank credited for them": (
                self.left.usd + way + self.at_bank.usd - self.bank.usd
            ),
        }


@dataclass(frozen=True)
class Recovery:
    """Charges that were declined for the first time in a month, by the class of that decline.

    `declined` is what they owed; `collected` those that were captured later, with what was captured.
    """

    decline_class: str
    declined: Tally
    collected: Tally


def billed_in(*, first: date, last: date) -> Billed:
    """The charges of these billing dates (the subscription's own zone), both days included."""
    states = {state.value: Tally() for state in ChargeState}
    for day in tallies.charges_by_day(first=first, last=last).values():
        for state, tally in day.items():
            so_far = states.get(state, Tally())
            states[state] = Tally(so_far.count + tally.count, so_far.usd + tally.usd)
    # Few: what stands, by its partial index.
    found = Discrepancy.objects.filter(
        STANDING,
        Q(charge__period_start__gte=first, charge__period_start__lte=last),
        kind=Kind.BILLING,
        code__in=[Code.UNDER_CHARGE, Code.SURPLUS],
    ).aggregate(money=Sum("difference"))
    amounts = sum((tally.usd for tally in states.values()), NOTHING)
    return Billed(owed=amounts - (found["money"] or NOTHING), states=states)


def landed_in(*, first: date, last: date) -> Landed:
    """What was captured, kept back, paid out and credited on these days, both included."""
    days = {"first": first, "last": last}
    captured = {told: Tally(count, usd) for told, count, usd in _rows(_CAPTURED, **days)}
    lines = {kind: Lines(*sums) for kind, *sums in _rows(_LINES, **days)}
    payouts = lines.pop("payout", Lines())
    return Landed(
        told=captured.get(True, Tally()),
        corrected=_corrected(**days),
        corrected_lines=_corrected_lines(**days),
        awaiting=captured.get(False, Tally()),
        charges=_of(lines, "charge"),
        refunds=_of(lines, "refund"),
        disputes=_of(lines, "dispute", "reversal"),
        fees=_fees(lines),
        others=_of(lines, "adjustment", "reserve_hold", "reserve_release"),
        paid=Tally(payouts.count, payouts.fee - payouts.gross),
        left=_tally(_LEFT, **days),
        before=_held(first - DAY),
        after=_held(last),
        bank=_tally(_BANK, **days),
        at_bank=_tally(_AT_BANK, **days),
    )


def recovery_in(*, first: date, last: date) -> Sequence[Recovery]:
    """By class, the charges first declined on these days (UTC, business clock), both included.

    It reads the declined attempts of these days by their index, never those of other months. What a
    charge owed is what its attempt asked for.
    """
    since, until = start_and_end(first, last)
    span = {
        "since": since,
        "until": until,
        # All there are, and none, so that the index is entered once for each.
        "classes": ["", *(each.value for each in DeclineClass)],
    }
    return [
        Recovery(name, Tally(count, owed), Tally(later, collected))
        for name, count, owed, later, collected in _rows(_RECOVERY, **span)
    ]


@dataclass(frozen=True)
class Lines:
    """Lines of one type: how many, how many of them bore a fee, and both columns in USD."""

    count: int = 0
    bearing: int = 0
    gross: Decimal = NOTHING
    fee: Decimal = NOTHING


def _of(lines: Mapping[str, Lines], *kinds: str) -> Tally:
    found = [lines[kind] for kind in kinds if kind in lines]
    return Tally(sum(each.count for each in found), sum((each.gross for each in found), NOTHING))


def _fees(lines: Mapping[str, Lines]) -> Tally:
    """A fee is a line of its own, or a column of another line: of every charge, of what else bore one."""
    own = _of(lines, *FEE_LINES)
    others = [each for kind, each in lines.items() if kind not in (*FEE_LINES, "charge")]
    count = own.count + _of(lines, "charge").count + sum(each.bearing for each in others)
    return Tally(count, own.usd - sum((each.fee for each in lines.values()), NOTHING))


def _held(day: date) -> Held:
    balances = balances_at(day)
    way = on_the_way(day).aggregate(count=Count("pk"), usd=Sum("under_way"))
    return Held(
        balance=Tally(len(balances), sum(balances.values(), NOTHING)),
        on_the_way=Tally(way["count"], way["usd"] or NOTHING),
    )


def balances_at(day: date) -> Mapping[int, Decimal]:
    """By the file that says it, what the processor of each lane held at the end of a day, USD."""
    return dict(_rows(_BALANCES, day=day))


def on_the_way(day: date) -> QuerySet[Any]:
    """Payouts on their way to the bank at the end of a day; `under_way` is what of each, USD.

    What left and was not credited, less what was credited before the file says that it left. What left
    and was credited with another amount is on no way: it is in the remainder.
    """
    credits = PayoutCredit.objects.filter(payout=OuterRef("pk"))
    by_then = credits.annotate(on=Coalesce("entry__value_on", "entry__booked_on"))
    credited = by_then.filter(on__lte=day).values("payout").annotate(usd=Sum("entry__net"))
    left = Q(value_on__lte=day)
    not_left = Q(value_on__isnull=True) | Q(value_on__gt=day)
    # What landed by then has left by then, too; so that of all there were few are looked at.
    open_then = Q(landed_on__isnull=True) | Q(landed_on__gt=day) | Q(value_on__gt=day)
    rows = Payout.objects.filter(open_then).annotate(credited=Subquery(credited.values("usd")))
    return rows.filter(
        (left & Q(credited__isnull=True) & ~Q(paid=0)) | (not_left & Q(credited__isnull=False))
    ).annotate(under_way=Case(When(left, then=F("paid")), default=-F("credited")))


def corrected_in(*, first: date, last: date) -> QuerySet[MatchedAttempt]:
    """Captures of these days of which two people booked a difference, with matches by hand.

    By the capture's own day. One that was in doubt was captured with its correction already. What was
    posted stands in the books, also of a match that is believed no more, until that is taken apart.
    """
    matched = MatchedAttempt.objects.filter(
        ~Q(correction=0), in_force=True, was_open=False, proposal__decision=Decision.APPROVED
    ).annotate(at=Coalesce("attempt__booked_at", "attempt__ended_at"))
    return matched.filter(on_lane_days(first=first, last=last, lane="attempt__lane", at="at"))


def _corrected(*, first: date, last: date) -> Tally:
    found = corrected_in(first=first, last=last).aggregate(count=Count("pk"), usd=Sum("correction"))
    return Tally(found["count"], found["usd"] or NOTHING)


def corrected_lines_in(*, first: date, last: date) -> QuerySet[Any]:
    """What files say otherwise, and two people corrected in clearing; `part` is what of each these days show.

    A line counts by its own day and the capture by its own: one that was told in the month after puts
    each of the two months right. Only while it is found so: what evidence has overtaken counts as the
    evidence says.
    """
    corrected = Discrepancy.objects.filter(
        kind=Kind.STATEMENT,
        cleared_at__isnull=True,
        resolved_at__isnull=False,
        proposal__way=Way.CORRECTED,
    )
    return corrected.annotate(part=corrected_part(first=first, last=last)).exclude(part=0)


def corrected_part(*, first: date, last: date) -> Combinable:
    """Of a discrepancy: its lines of these days, USD, and the rest of it if its capture is of these days."""
    named = Concat(Value(f"{Kind.STATEMENT}:{Code.UNMATCHED}:"), Cast("pk", CharField()))
    by_hand = MatchedLine.objects.filter(line=OuterRef("pk"), in_force=True)
    code = ExpressionWrapper(OuterRef("code"), CharField())
    lines = StatementLine.objects.annotate(fingerprint=named, code=code).filter(
        # Of several lines that name the same stranger each is a discrepancy of its own.
        ~Q(code=Code.UNMATCHED) | Q(fingerprint=OuterRef("fingerprint")),
        ~Exists(by_hand),
        key=OuterRef("key"),
        type=LineType.CHARGE,
        statement__state=ImportState.ACCEPTED,
    )
    of_these_days = lines.filter(on_lane_days(first=first, last=last, lane="statement__lane"))
    ends = Coalesce("charge__attempts__booked_at", "charge__attempts__ended_at")
    own = Discrepancy.objects.annotate(attempt=F("charge__attempts__pk"), at=ends)
    captured = own.filter(
        on_lane_days(first=first, last=last, at="at"), pk=OuterRef("pk"), attempt=F("key")
    )
    rest = Case(
        When(Exists(captured), then=F("difference") - _gross_of(lines)), default=Value(NOTHING)
    )
    return _gross_of(of_these_days) + rest


def _gross_of(lines: QuerySet[Any]) -> Combinable:
    sums = lines.order_by().values("key").annotate(usd=Sum("gross")).values("usd")
    return Coalesce(Subquery(sums), Value(NOTHING), output_field=DecimalField())


def _corrected_lines(*, first: date, last: date) -> Tally:
    found = corrected_lines_in(first=first, last=last)
    sums = found.aggregate(count=Count("pk"), usd=Sum("part"))
    return Tally(sums["count"], sums["usd"] or NOTHING)


def _tally(sql: str, **values: Any) -> Tally:
    ((count, usd),) = _rows(sql, **values)
    return Tally(count, usd)


def _rows(sql: str, **values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


# By lane-days: does an accepted file cover that day, as the comparison and home see it?
_CAPTURED: Final = """
    WITH zones AS MATERIALIZED (
      SELECT lane, settlements_statement_zone(lane) AS zone FROM settlements_statementterms
    ), days AS (
      SELECT t.lane, (t.slot AT TIME ZONE coalesce(z.zone, 'UTC'))::date AS day,
             sum(t.count) AS count, sum(t.usd) AS usd
      FROM checkout_attempttally t LEFT JOIN zones z ON z.lane = t.lane
      WHERE t.outcome IN ('captured', 'unapplied')
        -- No zone is a day away from UTC.
        AND t.slot >= (%(first)s::date - 1)::timestamp AT TIME ZONE 'UTC'
        AND t.slot < (%(last)s::date + 2)::timestamp AT TIME ZONE 'UTC'
      GROUP BY 1, 2
    )
    SELECT EXISTS (SELECT 1 FROM settlements_statementexpectation e
                   WHERE e.lane = d.lane AND e.day = d.day AND e.state = 'arrived') AS told,
           sum(d.count)::bigint, sum(d.usd)
    FROM days d WHERE d.day BETWEEN %(first)s AND %(last)s
    GROUP BY 1
"""

# A file is added up from its payouts' parts when they hold every line but payouts, and it lies within
# the month; its charges' fees are then what the parts' fees do not owe to other lines.
_LINES: Final = """
    WITH zones AS MATERIALIZED (
      SELECT lane, settlements_statement_zone(lane) AS zone FROM settlements_statementterms
    ), files AS MATERIALIZED (
      SELECT f.id, f.line_count, coalesce(z.zone, 'UTC') AS zone,
             f.first_day >= %(first)s AND f.last_day <= %(last)s AS is_within
      FROM settlements_statementimport f LEFT JOIN zones z ON z.lane = f.lane
      WHERE f.state = 'accepted' AND f.last_day >= %(first)s AND f.first_day <= %(last)s
    ), others AS MATERIALIZED (
      SELECT f.id, l.type, count(*) AS count, count(*) FILTER (WHERE l.fee <> 0) AS bearing,
             sum(l.gross) AS gross, sum(l.fee) AS fee
      FROM files f JOIN settlements_statementline l ON l.statement_id = f.id
      WHERE l.type <> 'charge' AND (f.is_within OR (l.booked_at AT TIME ZONE f.zone)::date
        BETWEEN %(first)s AND %(last)s)
      GROUP BY 1, 2
    ), beside AS (
      SELECT id, sum(count) AS count, coalesce(sum(count) FILTER (WHERE type = 'payout'), 0) AS payouts,
             coalesce(sum(gross) FILTER (WHERE type IN ('fee', 'dispute_fee')), 0.00)
               - coalesce(sum(fee) FILTER (WHERE type <> 'payout'), 0.00) AS fees
      FROM others GROUP BY 1
    ), parts AS (
      SELECT p.statement_id AS id, sum(p.gross) AS gross, sum(p.fees) AS fees,
             sum(p.line_count) AS count
      FROM files f JOIN settlements_payoutpart p ON p.statement_id = f.id
      WHERE f.is_within GROUP BY 1
    ), gathered AS MATERIALIZED (
      SELECT f.id, f.line_count - coalesce(b.count, 0) AS count, p.gross,
             coalesce(b.fees, 0.00) - p.fees AS fee
      FROM files f JOIN parts p USING (id) LEFT JOIN beside b USING (id)
      WHERE p.count + coalesce(b.payouts, 0) = f.line_count
    ), charges AS (
      SELECT count, gross, fee FROM gathered
      UNION ALL
      SELECT count(*), sum(l.gross), sum(l.fee)
      FROM files f JOIN settlements_statementline l ON l.statement_id = f.id
      WHERE l.type = 'charge' AND NOT EXISTS (SELECT 1 FROM gathered g WHERE g.id = f.id)
        AND (f.is_within OR (l.booked_at AT TIME ZONE f.zone)::date
          BETWEEN %(first)s AND %(last)s)
    )
    SELECT 'charge', coalesce(sum(count), 0)::bigint, 0, coalesce(sum(gross), 0.00),
           coalesce(sum(fee), 0.00) FROM charges
    UNION ALL
    SELECT type, sum(count)::bigint, sum(bearing)::bigint, sum(gross), sum(fee)
    FROM others GROUP BY 1
"""

# Accepted files of a lane follow one another without a gap: the last that began by the day counts, and
# before the first of all its own opening.
_BALANCES: Final = """
    WITH lanes AS (
      SELECT lane, settlements_statement_zone(lane) AS zone FROM settlements_statementimport
      WHERE state = 'accepted' GROUP BY lane
    )
    SELECT f.id, CASE
      WHEN f.first_day > %(day)s THEN f.opening
      WHEN f.last_day <= %(day)s THEN f.closing
      ELSE f.opening + coalesce((
        SELECT sum(l.net) FROM settlements_statementline l
        WHERE l.statement_id = f.id AND (l.booked_at AT TIME ZONE k.zone)::date <= %(day)s), 0.00)
      END
    FROM lanes k CROSS JOIN LATERAL (
      SELECT id, first_day, last_day, opening, closing FROM settlements_statementimport
      WHERE lane = k.lane AND state = 'accepted'
      ORDER BY first_day > %(day)s, abs(first_day - %(day)s) LIMIT 1
    ) f
    WHERE f.first_day <= %(day)s OR f.opening <> 0
"""

_LEFT: Final = """
    SELECT count(*), coalesce(sum(paid), 0.00) FROM settlements_payout
    WHERE value_on BETWEEN %(first)s AND %(last)s
"""
_BANK: Final = """
    SELECT count(*), coalesce(sum(e.net), 0.00)
    FROM settlements_payoutcredit c JOIN settlements_bankentry e ON e.id = c.entry_id
    WHERE coalesce(e.value_on, e.booked_on) BETWEEN %(first)s AND %(last)s
"""
_AT_BANK: Final = """
    SELECT count(*), coalesce(-sum(kept), 0.00) FROM settlements_payout
    WHERE kept <> 0 AND landed_on BETWEEN %(first)s AND %(last)s
"""
# The declined of the month come from one index, by class, in the order of each charge; an earlier decline is
# looked for only where it can be. Each charge is looked up, whatever a plan for all of them would cost.
_RECOVERY: Final = """
    WITH declined AS (
      SELECT DISTINCT ON (charge_id) charge_id, round, number, decline_class, amount
      FROM checkout_attempt
      WHERE outcome = 'declined' AND decline_class = ANY (%(classes)s)
        AND booked_at >= %(since)s AND booked_at < %(until)s
      ORDER BY charge_id, round, number
    )
    SELECT d.decline_class, count(*), sum(d.amount), count(got.captured_amount),
           coalesce(sum(got.captured_amount), 0.00)
    FROM declined d
    LEFT JOIN LATERAL (
      SELECT captured_amount FROM checkout_attempt
      WHERE charge_id = d.charge_id AND outcome = 'captured' OFFSET 0
    ) got ON true
    WHERE (d.round, d.number) = (1, 1) OR NOT EXISTS (
      SELECT 1 FROM checkout_attempt e
      WHERE e.charge_id = d.charge_id AND e.outcome = 'declined'
        AND (e.round, e.number) < (d.round, d.number))
    GROUP BY 1 ORDER BY 1
"""
