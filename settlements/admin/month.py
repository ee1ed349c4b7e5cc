"""The month: what was billed and became of it, what was captured and landed, and what is still owed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from checkout import tallies, wiring
from checkout.charts import Bar, Part, stacked_bars
from checkout.clock import DAY, Moment
from checkout.desk import money
from checkout.models import ChargeState
from checkout.page import Printed, in_snapshot, month_named, months_before
from checkout.tallies import Tally
from settlements.admin.captures import captures_link
from settlements.days import Stretch
from settlements.month import Billed, Held, Landed, Recovery, billed_in, landed_in, recovery_in

RIGHTS: Final = (
    "checkout.view_charge",
    "checkout.view_attempt",
    "settlements.view_statementline",
    "settlements.view_payout",
    "settlements.view_bankentry",
)
# In the order of the equation; what is due, attempting, pending or failed is being retried.
STATES: Final = (
    (ChargeState.SUCCEEDED, "succeeded"),
    (ChargeState.FAILED_THEN_RETRY, "retrying: declined, tried again"),
    (ChargeState.DUE, "retrying: due, not tried in this round"),
    (ChargeState.ATTEMPTING, "retrying: being tried now"),
    (ChargeState.PENDING, "retrying: waits for the payer"),
    (ChargeState.IN_DOUBT, "in doubt"),
    (ChargeState.EXHAUSTED, "exhausted"),
    (ChargeState.VOIDED, "voided"),
    (ChargeState.WRITTEN_OFF, "written off"),
)


@dataclass(frozen=True)
class Row:
    """A line of an equation: its sign, words, the date it is taken by, count, USD and list."""

    sign: str
    words: str
    by: str
    count: int
    usd: Decimal
    link: str

    @property
    def count_shown(self) -> str:
        return f"{self.count:,}"

    @property
    def usd_shown(self) -> str:
        return money(self.usd)


def month(request: HttpRequest) -> HttpResponse:
    """For everybody who may see charges, statements, payouts and the bank's entries."""
    if not all(request.user.has_perm(right) for right in RIGHTS):
        raise PermissionDenied
    return in_snapshot(lambda: _month(request))


def _month(request: HttpRequest) -> HttpResponse:
    now = wiring.clock().now()
    offered = months_before(now.business.date())
    chosen = request.GET.get("month", "")
    span = month_named(chosen)
    if span is None:
        chosen = offered[0]
        span = month_named(chosen)
    assert span is not None, "an offered month is one"  # noqa: S101  for the type checker
    context: dict[str, Any] = admin.site.each_context(request) | {
        "title": f"Month {chosen}",
        "months": offered if chosen in offered else [*offered, chosen],
        "chosen": chosen,
        **_figures(chosen, *span, now=now),
    }
    return TemplateResponse(request, "admin/month.html", context)


def _figures(chosen: str, first: date, last: date, *, now: Moment) -> dict[str, Any]:
    billed, landed = billed_in(first=first, last=last), landed_in(first=first, last=last)
    recovered = recovery_in(first=first, last=last)
    ages = tallies.uncollected_by_age(now.business.date())
    return {
        "printed": Printed(
            at=now.real,
            chosen=f"billing dates {first} to {last}",
            count=billed.count,
            noun="charge" if billed.count == 1 else "charges",
            usd=sum((tally.usd for tally in billed.states.values()), Decimal("0.00")),
        ),
        "billed": [_owed(billed, chosen), *_states(billed, chosen)],
        "billed_remainder": _remainder(billed.remainder),
        "billing_desk": f"{_list('settlements_discrepancy')}?standing=yes&kind__exact=billing",
        "succeeded": money(billed.states[ChargeState.SUCCEEDED].usd),
        "otherwise": f"{landed.captured.usd - billed.states[ChargeState.SUCCEEDED].usd:+,.2f}",
        "landed": list(_landed(landed, chosen, Stretch(first, last))),
        "landed_remainder": _remainder(landed.remainder),
        "causes": [(words, money(usd)) for words, usd in landed.causes.items() if usd],
        "ages": list(_ages(ages)),
        "today": now.business.date(),
        "recovery": [_recovered(each, chosen) for each in recovered],
        "chart": _chart(recovered, chosen) if recovered else "",
    }


def _remainder(usd: Decimal) -> dict[str, Any]:
    return {"usd": money(usd), "is_zero": usd == 0}


def _owed(billed: Billed, chosen: str) -> Row:
    link = f"{_list('checkout_charge')}?month={chosen}"
    return Row("", "billed, by terms and calendar", "billing date", billed.count, billed.owed, link)


def _states(billed: Billed, chosen: str) -> Iterator[Row]:
    for n, (state, words) in enumerate(STATES):
        tally = billed.states[state]
        query = urlencode({"month": chosen, "state__exact": state.value})
        link = f"{_list('checkout_charge')}?{query}"
        yield Row("+" if n else "=", words, "billing date", tally.count, tally.usd, link)


def _landed(landed: Landed, chosen: str, days: Stretch) -> Iterator[Row]:
    """The equation's lines, each as it is added or taken; what is kept back is shown without its sign."""
    lines, booked = _list("settlements_statementline"), "booking date, lane's zone"
    ours, captured = landed.captured, captures_link(stretch=days)
    yield Row("", "captured, by our records", booked, ours.count, ours.usd, captured)
    if landed.corrected.count:
        matches = f"{_list('settlements_proposal')}?corrected={chosen}"
        words = "differences of matches by hand, corrected"
        yield Row("+", words, booked, landed.corrected.count, landed.corrected.usd, matches)
    if (lines_of := landed.corrected_lines).count:
        otherwise = f"{_list('settlements_discrepancy')}?corrected={chosen}"
        words = "what files say otherwise, corrected"
        yield Row("+", words, booked, lines_of.count, lines_of.usd, otherwise)
    for name, words, tally in (
        ("refunds", "refunds", landed.refunds),
        ("disputes", "disputes, less those reversed", landed.disputes),
        ("fees", "fees of the processors", landed.fees),
        ("others", "adjustments and reserves kept", landed.others),
    ):
        link = f"{lines}?what={name}&booked={chosen}"
        yield Row("−", words, booked, tally.count, -tally.usd, link)
    if landed.at_bank.count:
        link = f"{_list('settlements_payout')}?kept={chosen}"
        words = "kept by the bank, accepted by two people"
        yield Row("−", words, "value date", landed.at_bank.count, -landed.at_bank.usd, link)
    yield from _held(landed, days)
    credited = f"{_list('settlements_bankentry')}?credited={chosen}"
    yield Row("=", "bank", "value date", landed.bank.count, landed.bank.usd, credited)


def _held(landed: Landed, days: Stretch) -> Iterator[Row]:
    """Not yet paid out: carried in from the month before, and carried on into the next."""
    late, awaited = landed.awaiting, captures_link(stretch=days, file="no")
    yield from _not_passed_on("+", landed.before, "end of the month before", days.first - DAY)
    end = "end of the month"
    yield Row("−", "not paid out: no file of the day yet", end, late.count, late.usd, awaited)
    yield from _not_passed_on("−", landed.after, end, days.last)


def _not_passed_on(sign: str, held: Held, by: str, day: date) -> Iterator[Row]:
    """What processors hold, by the file of each lane that says so, and the payouts that left them."""
    at, way = held.balance, held.on_the_way
    files = f"{_list('settlements_statementimport')}?held={day}"
    yield Row(sign, "not paid out: at the processors", by, at.count, at.usd, files)
    payouts = f"{_list('settlements_payout')}?on_the_way={day}"
    yield Row(sign, "not paid out: on the way to the bank", by, way.count, way.usd, payouts)


def _ages(found: Any) -> Iterator[Row]:
    address = _list("checkout_charge")
    for age in tallies.AGES:
        tally: Tally = found[age.name]
        link = f"{address}?uncollected={age.name}"
        yield Row("", f"{age.words} days", "", tally.count, tally.usd, link)


def _recovered(each: Recovery, chosen: str) -> dict[str, Any]:
    query = {"decline": each.decline_class, "booked": chosen}
    declined = _list("checkout_attempt")
    part = each.collected.count * 1000 // each.declined.count
    return {
        "words": each.decline_class.replace("_", " ") or "no class",
        "link": f"{declined}?{urlencode(query | {'first': 'yes'})}",
        "collected_link": f"{declined}?{urlencode(query | {'first': 'collected'})}",
        "count": f"{each.declined.count:,}",
        "usd": money(each.declined.usd),
        "collected": f"{each.collected.count:,}",
        "collected_usd": money(each.collected.usd),
        "part": f"{part // 10}.{part % 10} %",
    }


def _chart(recovered: Sequence[Recovery], chosen: str) -> str:
    bars = [
        Bar(
            each.decline_class.replace("_", " ") or "no class",
            [
                Part(
                    each.collected.count,
                    "good",
                    f"{each.collected.count:,} collected later, {money(each.collected.usd)} USD",
                ),
                Part(
                    each.declined.count - each.collected.count,
                    "wait",
                    f"{each.declined.count - each.collected.count:,} not collected",
                ),
            ],
        )
        for each in recovered
    ]
    return stacked_bars(
        name="recovery",
        title=f"Charges first declined in {chosen}, by class",
        description="Stacked by what became of them; the table beside it says the same in figures.",
        bars=bars,
    )


def _list(model: str) -> str:
    return reverse(f"admin:{model}_changelist")
