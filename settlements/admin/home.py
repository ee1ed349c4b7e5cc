"""Finance's home: warnings first, the days since the last close, what waits for me, and how collection stands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from checkout import outbox, readings, tallies, wiring
from checkout.charts import Bar, Part, stacked_bars
from checkout.clock import Moment
from checkout.models import CASE_WAITS, REQUEUE_WAITS, BulkRequeue, Case, ChargeState
from checkout.page import TO, Printed, in_both_zones, in_snapshot
from checkout.requeues import by_another
from checkout.tallies import LAYERS, Layer, Tally
from settlements.admin.captures import captures_link
from settlements.admin.proposals import waits_for
from settlements.days import Awaited, Days, Stretch, days_to_prove
from settlements.models import (
    STANDING,
    BankExpectation,
    BooksClose,
    Discrepancy,
    ExpectationState,
    ProofState,
    Proposal,
)
from settlements.payouts import payouts_due
from settlements.readings import exports_waiting, freshness, is_last_pass_whole, oldest_mark

CHART_DAYS: Final = 14
DECLINE_DAYS: Final = 7
# Seconds after which what should come every few seconds is a warning.
STALE: Final = 60
# Seconds within which a worker makes the largest list.
EXPORT_STALE: Final = 900
# Figures of awaited files in the first sentence; the table below it has each file.
MOST_AWAITED: Final = 4
_ABOUT_CHARGES: Final = "standing=yes&about=charge"
# How a layer of charges is coloured, in the order of `tallies.LAYERS`.
COLOURS: Final = ("good", "wait", "bad", "quiet")


@dataclass(frozen=True)
class Figure:
    """A count with its USD and the list behind it."""

    words: str
    count: int
    usd: Decimal | None
    link: str
    is_least: bool = False

    @property
    def usd_shown(self) -> str:
        return "" if self.usd is None else f"{self.usd:,.2f}"

    @property
    def count_shown(self) -> str:
        return f"{'at least ' if self.is_least else ''}{self.count:,}"


@dataclass(frozen=True)
class Warning:
    """Something that makes the figures below doubtful or wants a hand, and where to look."""

    text: str
    link: str


def home(request: HttpRequest) -> HttpResponse:
    """The first page; a member of staff without a role is told so, and shown nothing."""
    return in_snapshot(lambda: _home(request))


def _home(request: HttpRequest) -> HttpResponse:
    context: dict[str, Any] = admin.site.each_context(request) | {
        "title": "Home",
        "app_list": admin.site.get_app_list(request),
    }
    if request.user.has_perm("checkout.view_charge") and request.user.has_perm(
        "settlements.view_discrepancy"
    ):
        context |= _figures(request, wiring.clock().now())
    return TemplateResponse(request, "admin/home.html", context)


def _figures(request: HttpRequest, now: Moment) -> dict[str, Any]:
    days = days_to_prove(now=now.business)
    dead = readings.dead_letters(readings.open_cases())
    states = tallies.charges_by_state()
    return {
        "printed": Printed(
            at=now.real,
            chosen=f"days {days.first} to {days.last}",
            count=days.captures,
            noun="capture" if days.captures == 1 else "captures",
            usd=_usd_of(days),
        ),
        "business": in_both_zones(now.business) if now.business != now.real else "",
        "days": days,
        "sentence": list(_sentence(days, now.business)),
        "parts": list(_parts(days, now.business)),
        "warnings": list(_warnings(days, dead, now)),
        "waiting": list(_waiting_for(request)),
        "states": list(_states(states)),
        "owed": _owed(states),
        "declines": _declines(now.business.date()),
        "payouts": list(_payouts(now.business.date())),
        "outbox": list(_outbox(now)),
        "dead": Figure("dead letters", dead.count, dead.usd, _dead_link()),
        "days_charged": _days_charged(now.business.date()),
    }


def _usd_of(days: Days) -> Decimal:
    waiting = (each.captures.usd for each in days.awaiting)
    return sum(waiting, days.proved.usd + days.discrepant.usd)


# --- The days ------------------------------------------------------------------------------------


def _sentence(days: Days, now: datetime) -> Iterator[Figure]:
    """The first line of the morning, each part with the list of exactly what it counts."""
    link = captures_link(proof=ProofState.PROVED, stretch=days.stretch)
    yield Figure("proved", days.proved.count, days.proved.usd, link)
    yield from _awaited_in_few(days, now)
    found = days.differing
    words = f"discrepant ({found.absolute:,.2f} absolute, {found.net:+,.2f} net)"
    yield Figure(words, found.count, found.absolute, f"{_list('discrepancy')}?{_ABOUT_CHARGES}")


def _awaited_in_few(days: Days, now: datetime) -> Iterator[Figure]:
    """Each file that is awaited; where they are many, those of the newest days together.

    Whole days are put together, so that a stretch of days names exactly these captures.
    """
    named = days.awaiting
    if len(named) > MOST_AWAITED:
        from_day = named[MOST_AWAITED - 1].day
        named = [each for each in named if each.day < from_day]
    yield from (_awaited(each, now) for each in named)
    if together := days.awaiting[len(named) :]:
        stretch = Stretch(together[0].day, together[-1].day)
        when = (
            f"{stretch.first}"
            if stretch.first == stretch.last
            else f"{stretch.first} to {stretch.last}"
        )
        late = sum(each.late(now) is not None for each in together)
        yield Figure(
            f"await the {len(together)} files for {when}{f', {late} of them late' if late else ''}",
            sum(each.captures.count for each in together),
            sum((each.captures.usd for each in together), Decimal("0.00")),
            captures_link(proof=ProofState.AWAITING, stretch=stretch),
        )


def _parts(days: Days, now: datetime) -> Iterator[Figure]:
    """What the sentence is made of, in captures and their USD; together it is what was captured."""
    link = captures_link(proof=ProofState.PROVED, stretch=days.stretch)
    yield Figure("proved by an accepted file", days.proved.count, days.proved.usd, link)
    yield from (_awaited(each, now) for each in days.awaiting)
    link = captures_link(proof=ProofState.DISCREPANT, stretch=days.stretch)
    words = "with a discrepancy about the charge"
    yield Figure(words, days.discrepant.count, days.discrepant.usd, link)


def _awaited(each: Awaited, now: datetime) -> Figure:
    late = each.late(now)
    if each.state == ExpectationState.QUARANTINED:
        when = "which arrived and was set aside"
    elif each.due_at is None:
        when = "not due yet"
    elif late is None:
        when = f"due {each.due_at:%Y-%m-%d %H:%M} UTC"
    else:
        when = f"{_length(late)} late"
    return Figure(
        f"await the file of {each.lane} for {each.day}, {when}",
        each.captures.count,
        each.captures.usd,
        captures_link(
            proof=ProofState.AWAITING, stretch=Stretch(each.day, each.day), lane=each.lane
        ),
    )


def _length(late: timedelta) -> str:
    hours = int(late.total_seconds()) // 3600
    if hours < 1:
        return f"{int(late.total_seconds()) // 60} min"
    return f"{hours} h" if hours < 48 else f"{late.days} days"


# --- Warnings ------------------------------------------------------------------------------------


def _warnings(days: Days, dead: readings.Pile, now: Moment) -> Iterator[Warning]:
    yield from _late_files(days, now)
    yield from _stale(now)
    about_files = Discrepancy.objects.filter(STANDING, charge__isnull=True).count()
    if about_files:
        are = "discrepancy is" if about_files == 1 else "discrepancies are"
        text = f"{about_files} {are} about no charge: files, lines or the topic."
        yield Warning(text, f"{_list('discrepancy')}?standing=yes&about=else")
    if dead.count:
        oldest = _length(timedelta(seconds=dead.age(now.real)))
        yield Warning(f"{dead.count:,} dead letters wait, the oldest for {oldest}.", _dead_link())
    for hold in readings.holds(now.real):
        what = "all of collection" if hold.scope == "all" else f"{hold.scope} {hold.subject}"
        text = f"{hold.get_kind_display()}: {what} is stopped: {hold.reason}"
        yield Warning(text, reverse("admin:checkout_hold_changelist"))


def _late_files(days: Days, now: Moment) -> Iterator[Warning]:
    late = [each for each in days.awaiting if each.late(now.business)]
    if late:
        one = late[0]
        text = f"{len(late)} files are late, the oldest is that of {one.lane} for {one.day}."
        if len(late) == 1:
            text = f"The file of {one.lane} for {one.day} is late."
        yield Warning(text, f"{_list('expectation')}?state__exact=late")
    late_at_banks = BankExpectation.objects.filter(state=ExpectationState.LATE)
    if oldest := late_at_banks.order_by("day", "account").first():
        text = f"The bank's statement of {oldest.account} for {oldest.day} is late."
        if (count := late_at_banks.count()) > 1:
            text = f"{count} bank statements are late, the oldest is for {oldest.day}."
        link = reverse("admin:settlements_bankexpectation_changelist")
        yield Warning(text, f"{link}?state__exact=late")
    if days.older:
        have = "day of a lane before" if days.older == 1 else "days of lanes before"
        text = f"{days.older} {have} {days.first} without an accepted file."
        yield Warning(text, f"{_list('expectation')}?there=no&before={days.first}")


def _stale(now: Moment) -> Iterator[Warning]:
    runs = [each for each in freshness() if each.mode == "incremental"]
    link = _list("reconciliationrun")
    if not runs:
        yield Warning("No pass of reconciliation has run yet: nothing below is compared.", link)
    elif runs[0].age(now.real) > STALE:
        ago = _length(timedelta(seconds=runs[0].age(now.real)))
        yield Warning(f"The last pass of reconciliation began {ago} ago.", link)
    if not is_last_pass_whole():
        text = "Not everything can be compared: a row cannot be computed with; the log says which kind."
        yield Warning(text, link)
    mark = oldest_mark()
    if mark is not None and (now.real - mark).total_seconds() > STALE:
        ago = _length(now.real - mark)
        yield Warning(f"A change of {ago} ago waits for a pass to look at it.", link)
    exports = exports_waiting()
    if exports.age(now.real) > EXPORT_STALE:
        ago = _length(timedelta(seconds=exports.age(now.real)))
        text = f"An export that was asked for {ago} ago is not made: does an export worker run?"
        yield Warning(
            text, f"{reverse('admin:settlements_exportrun_changelist')}?state__exact=asked"
        )


# --- Waiting for me --------------------------------------------------------------------------------


def _waiting_for(request: HttpRequest) -> Iterator[Figure]:
    """What this person, by name and by role, is the next to act on."""
    user, me = request.user, request.user.get_username()
    if user.has_perm("settlements.approve_proposal"):
        waits = Proposal.objects.filter(waits_for(me))
        link = f"{_list('proposal')}?waiting=me"
        yield _pile("proposals to approve or refuse", waits, "net", link)
    if user.has_perm("settlements.approve_booksclose"):
        closes = BooksClose.objects.filter(waits_for(me))
        link = f"{_list('booksclose')}?waiting=me"
        yield _pile("days or months to lock", closes, "debit", link)
    if user.has_perm("checkout.approve_case"):
        cases = Case.objects.filter(CASE_WAITS, by_another(me))
        link = f"{reverse('admin:checkout_case_changelist')}?waiting=me"
        yield _pile("verdicts and bill runs to approve", cases, "amount", link)
    if user.has_perm("checkout.approve_bulkrequeue"):
        runs = BulkRequeue.objects.filter(REQUEUE_WAITS, by_another(me))
        link = f"{reverse('admin:checkout_bulkrequeue_changelist')}?waiting=me"
        yield _pile("bulk requeues to approve or refuse", runs, "usd", link)
    if user.has_perm("settlements.change_discrepancy"):
        mine = Discrepancy.objects.filter(STANDING, assigned_to=me)
        link = f"{_list('discrepancy')}?standing=yes&whose=me"
        yield _pile("discrepancies assigned to me", mine, "difference", link)
        free = Discrepancy.objects.filter(STANDING, assigned_to="")
        link = f"{_list('discrepancy')}?standing=yes&whose=nobody"
        yield _pile("discrepancies nobody looks into", free, "difference", link)


def _pile(words: str, rows: QuerySet[Any], amount: str, link: str) -> Figure:
    found = rows.aggregate(number=Count("pk"), money=Sum(amount))
    return Figure(words, found["number"], found["money"] or Decimal("0.00"), link)


# --- How collection stands -------------------------------------------------------------------------


def _states(states: Any) -> Iterator[Figure]:
    address = reverse("admin:checkout_charge_changelist")
    for state in ChargeState:
        tally = states.get(state.value, Tally())
        words = state.value.replace("_", " ")
        yield Figure(words, tally.count, tally.usd, f"{address}?state__exact={state.value}")


def _owed(states: Any) -> Figure:
    doubt = states.get(ChargeState.IN_DOUBT.value, Tally())
    return Figure("in doubt", doubt.count, doubt.usd, reverse("in_doubt"))


def _declines(today: date) -> list[Figure]:
    """By class, of today and the days before it, with the attempts of just this class and these days."""
    first = today - timedelta(days=DECLINE_DAYS - 1)
    address = f"{reverse('admin:checkout_attempt_changelist')}?days={first}{TO}{today}"
    return [
        Figure(name.replace("_", " "), tally.count, tally.usd, f"{address}&decline={name}")
        for name, tally in tallies.declines_by_class(first=first, last=today).items()
    ]


def _payouts(today: date) -> Iterator[Figure]:
    """What processors sent and no bank has shown; of it, as on *Cash*, what is past its day."""
    due, over = payouts_due(today=today)
    link = _list("payout")
    yield Figure("payouts due: left, not landed", due.count, due.usd, f"{link}?standing=left")
    if over.count:
        words = "payouts due: past their day"
        yield Figure(words, over.count, over.usd, f"{link}?left_before={today}")


def _outbox(now: Moment) -> Iterator[Figure]:
    address = f"{reverse('admin:checkout_outboxmessage_changelist')}?waiting="
    for door, depth in outbox.depth(now=now.real).items():
        words = f"messages wait to leave by {door.value}"
        if depth.waiting:
            words += f", the oldest for {_length(timedelta(seconds=depth.oldest_seconds))}"
        is_cut = depth.waiting + depth.delayed >= outbox.MOST_COUNTED
        yield Figure(words, depth.waiting, None, f"{address}{door}", is_cut)
        if depth.delayed:
            words = f"messages leave by {door.value} later"
            yield Figure(words, depth.delayed, None, f"{address}{door}-later", is_cut)
        if depth.parked:
            words = f"messages are parked at {door.value}"
            yield Figure(words, depth.parked, None, f"{address}{door}-parked")


def _days_charged(today: date) -> dict[str, Any]:
    first = today - timedelta(days=CHART_DAYS - 1)
    found = tallies.charges_by_day(first=first, last=today)
    days = [first + timedelta(days=n) for n in range(CHART_DAYS)]
    rows = [(day, [_layer(found.get(day, {}), day, layer) for layer in LAYERS]) for day in days]
    bars = [
        Bar(
            f"{day:%d}",
            [
                Part(each.count, colour, f"{each.count:,} {each.words}, {each.usd_shown} USD")
                for colour, each in zip(COLOURS, figures, strict=True)
            ],
        )
        for day, figures in rows
    ]
    return {
        "svg": stacked_bars(
            name="charged",
            title=f"Charges by billing date, {first} to {today}",
            description="Stacked by what became of them; the table below it says the same in figures.",
            bars=bars,
        ),
        "legend": [(layer.name, colour) for layer, colour in zip(LAYERS, COLOURS, strict=True)],
        "rows": rows,
    }


def _layer(of_day: Mapping[str, Tally], day: date, layer: Layer) -> Figure:
    parts = [of_day.get(state.value, Tally()) for state in layer.states]
    query = urlencode({"billed": day, "became": layer.name})
    return Figure(
        layer.name,
        sum(part.count for part in parts),
        sum((part.usd for part in parts), Decimal("0.00")),
        f"{reverse('admin:checkout_charge_changelist')}?{query}",
    )


def _list(name: str) -> str:
    model = {"expectation": "statementexpectation"}.get(name, name)
    return reverse(f"admin:settlements_{model}_changelist")


def _dead_link() -> str:
    return f"{reverse('admin:checkout_case_changelist')}?letters=open"
