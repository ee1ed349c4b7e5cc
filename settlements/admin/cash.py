"""Cash expected: what was promised for each day, what the processors sent, and what the bank shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from checkout import wiring
from checkout.charts import Bar, Part, stacked_bars
from checkout.desk import money
from checkout.page import Printed, day_named, in_snapshot
from settlements.payouts import Cash, cash_expected

RIGHTS: Final = ("settlements.view_payout", "settlements.view_settlement")
BEFORE: Final = timedelta(days=14)
AFTER: Final = timedelta(days=14)
NOTHING: Final = Decimal("0.00")


@dataclass(frozen=True)
class Row:
    """One day of one lane; an amount of 0.00 is no link."""

    day: date
    lane: str
    is_over: bool
    due: str
    due_link: str
    announced: str
    announced_link: str
    landed: str
    landed_link: str


def cash(request: HttpRequest) -> HttpResponse:
    """For everybody who may see payouts and settlements."""
    if not all(request.user.has_perm(right) for right in RIGHTS):
        raise PermissionDenied
    return in_snapshot(lambda: _cash(request))


def _cash(request: HttpRequest) -> HttpResponse:
    now = wiring.clock().now()
    today = now.business.date()
    asked = request.GET.get("around", "")
    chosen = day_named(asked) or today
    first, last = chosen - BEFORE, chosen + AFTER
    found = cash_expected(first=first, last=last)
    late = [each for each in found if each.day < today and each.due + each.announced]
    context: dict[str, Any] = admin.site.each_context(request) | {
        "title": "Cash expected",
        "printed": Printed(
            at=now.real,
            chosen=f"value dates {first} to {last}",
            count=len(found),
            noun="day of a lane" if len(found) == 1 else "days of a lane",
            usd=_sum(found, "due"),
        ),
        "around": chosen,
        "not_a_day": asked if asked and day_named(asked) is None else "",
        "rows": [_row(each, today=today) for each in found],
        "due": money(_sum(found, "due")),
        "announced": money(_sum(found, "announced")),
        "landed": money(_sum(found, "landed")),
        "late_due": money(_sum(late, "due")) if _sum(late, "due") else "",
        "late_announced": money(_sum(late, "announced")) if _sum(late, "announced") else "",
        "chart": _chart(found, first=first, last=last) if found else "",
    }
    return TemplateResponse(request, "admin/cash.html", context)


def _sum(found: Sequence[Cash], name: str) -> Decimal:
    return sum((getattr(each, name) for each in found), NOTHING)


def _row(each: Cash, *, today: date) -> Row:
    settlements = reverse("admin:settlements_settlement_changelist")
    payouts = reverse("admin:settlements_payout_changelist")

    def link(address: str, usd: Decimal, **filters: object) -> str:
        return f"{address}?{urlencode(filters)}" if usd else ""

    return Row(
        day=each.day,
        lane=each.lane,
        is_over=each.day < today and bool(each.due or each.announced),
        due=money(each.due),
        due_link=link(settlements, each.due, lands=each.day),
        announced=money(each.announced),
        announced_link=link(payouts, each.announced, left=each.day, lane=each.lane),
        landed=money(each.landed),
        landed_link=link(payouts, each.landed, landed=each.day, lane=each.lane),
    )


def _chart(found: Sequence[Cash], *, first: date, last: date) -> str:
    """A bar a day, in whole USD: a chart shows proportions, the table the cents.

    What is on the way is a part of what is due, so it is no layer of its own.
    """
    return stacked_bars(
        name="cash",
        title=f"Cash by value date, {first} to {last}, in whole USD",
        description="Stacked: landed, and still due. The table beside it says the same in figures.",
        bars=list(_bars(found, first=first, last=last)),
    )


def _bars(found: Sequence[Cash], *, first: date, last: date) -> Iterator[Bar]:
    for n in range((last - first).days + 1):
        day = first + timedelta(days=n)
        of_day = [each for each in found if each.day == day]
        landed, due = _sum(of_day, "landed"), _sum(of_day, "due")
        yield Bar(
            f"{day:%d}",
            [
                Part(max(int(landed), 0), "good", f"{day}: {money(landed)} USD landed"),
                Part(max(int(due), 0), "wait", f"{day}: {money(due)} USD still due"),
            ],
        )
