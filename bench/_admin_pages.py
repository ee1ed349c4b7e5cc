"""The pages that bench/admin_pages.py opens, and how it opens them."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from bench._admin_rows import load
from checkout.clock import Ages, Clock
from checkout.models import Attempt, Charge
from settlements import reconciliation
from settlements.models import (
    STANDING,
    BooksClose,
    Decision,
    Discrepancy,
    Kind,
    Payout,
    Proposal,
    Settlement,
    Span,
)
from settlements.roles import APPROVER

CHARGE, ATTEMPT, LINE = "checkout_charge", "checkout_attempt", "settlements_statementline"
CAPTURE, EXPORT = "settlements_capture", "settlements_exportrun"
MESSAGE, CASE, HOLD = "checkout_outboxmessage", "checkout_case", "checkout_hold"
# A list by name: its model, what is asked of ours, and of the default one; None where that is no peer.
LISTS: dict[str, tuple[str, str, str | None]] = {
    "captures": (CAPTURE, "", None),
    "captures proved": (CAPTURE, "proof=proved", None),
    "captures that await a file": (CAPTURE, "proof=awaiting", None),
    "captures discrepant": (CAPTURE, "proof=discrepant", None),
    "captures without a file": (CAPTURE, "file=no", None),
    "captures of a month": (CAPTURE, "days={month}-01..{month}-28", None),
    "captures of days long ago": (CAPTURE, "days={month}-03..{month}-05&lane=mena", None),
    "charges": (CHARGE, "", ""),
    "charges, page 40": (CHARGE, "p=40", "p=20"),
    "charges in doubt": (CHARGE, "state__exact=in_doubt", "state__exact=in_doubt"),
    "charges written off": (CHARGE, "state__exact=written_off", "state__exact=written_off"),
    "charges of a lane": (CHARGE, "lane=mena", "lane=mena"),
    "charges of a month": (CHARGE, "month={month}", "period_start__month=8"),
    "charges of a month, voided": (CHARGE, "month={month}&state__exact=voided", None),
    "charges of a month, in doubt": (CHARGE, "month={month}&state__exact=in_doubt", None),
    "charges uncollected, youngest": (CHARGE, "uncollected=0-7", None),
    "charges uncollected, over 90 days": (CHARGE, "uncollected=over-90", None),
    "charges, sorted by amount": (CHARGE, "o=-6", None),
    "charges in doubt, by amount": (CHARGE, "state__exact=in_doubt&o=-6", None),
    "charge by its id": (CHARGE, "q={charge}", "q={charge}"),
    "charge by merchant reference": (CHARGE, "q={attempt}", None),
    "charge by external id": (CHARGE, "q={creator}", "q={creator}"),
    "attempts": (ATTEMPT, "", ""),
    "attempts not yet known": (ATTEMPT, "outcome=open", "outcome__exact=open"),
    "attempts captured in a month": (ATTEMPT, "outcome=captured&booked={month}", None),
    "attempts declined so, of a month": (ATTEMPT, "decline=technical&booked={month}", None),
    "first declines of a month": (ATTEMPT, "decline=technical&booked={month}&first=yes", None),
    "first declines collected later": (
        ATTEMPT,
        "decline=technical&booked={month}&first=collected",
        None,
    ),
    "attempts that no class has": (ATTEMPT, "decline=never", "decline_class=never"),
    "messages": (MESSAGE, "", ""),
    "messages that wait": (MESSAGE, "waiting=kafka", None),
    "messages of a charge": (MESSAGE, "q={charge}", "q={charge}"),
    "ledger entries": ("checkout_ledgerentry", "", ""),
    "entries of a month": ("checkout_ledgerentry", "posted={month}", None),
    "entries of a charge": ("checkout_ledgerentry", "q={charge}", "q={charge}"),
    "statements": ("settlements_statementimport", "", ""),
    "statements that hold a balance": (
        "settlements_statementimport",
        "held={month}-28",
        None,
    ),
    "statement lines": (LINE, "", ""),
    "lines of an attempt": (LINE, "q={attempt}", "q={attempt}"),
    "lines, refunds": (LINE, "what=refunds", "type=refund"),
    "lines, refunds of a month": (LINE, "what=refunds&booked={month}", None),
    "lines, charges of a month": (LINE, "what=charges&booked={month}", None),
    "lines, fees of a month": (LINE, "what=fees&booked={month}", None),
    "lines, disputes (there are none)": (LINE, "what=disputes", "type=dispute"),
    "files expected": ("settlements_statementexpectation", "", None),
    "discrepancies": ("settlements_discrepancy", "standing=yes", ""),
    "discrepancies cleared": ("settlements_discrepancy", "standing=no", None),
    "proposals": ("settlements_proposal", "", None),
    "desk actions": ("settlements_deskaction", "", None),
    "settlements": ("settlements_settlement", "", ""),
    "settlements of a creator": ("settlements_settlement", "q={creator}", "q={creator}"),
    "payouts": ("settlements_payout", "", ""),
    "payouts on their way": ("settlements_payout", "on_the_way={month}-28", None),
    "bank entries": ("settlements_bankentry", "", None),
    "closes": ("settlements_booksclose", "", None),
    "exports": (EXPORT, "", None),
    "cases": (CASE, "", ""),
    "cases, one kind": (CASE, "kind__exact=dead_letter&open=yes", "kind__exact=dead_letter"),
    "bulk requeues": ("checkout_bulkrequeue", "", None),
    "holds": (HOLD, "", ""),
    "passes": ("settlements_reconciliationrun", "", ""),
    "passes, full ones": ("settlements_reconciliationrun", "mode__exact=full", "mode__exact=full"),
    "notices": ("settlements_notice", "", None),
    "audit trail": ("admin_logentry", "", ""),
    "audit trail of a charge": ("admin_logentry", "q={charge}", None),
}


class NotOpened(Exception):
    """A page answered something else than itself."""


@dataclass(frozen=True)
class Opened:
    """A page: its address, and the default admin's; what each opening took in ms; its queries."""

    name: str
    address: str
    plain: str = ""
    took: list[float] = field(default_factory=list)
    plain_took: list[float] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)


def prepare(*, charges: int) -> None:
    """Tables, and what is in them."""
    call_command("migrate", verbosity=0)
    load(charges=charges)


def facts() -> dict[str, int]:
    """What the database holds."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        (size,) = cursor.fetchone()
    return {
        "charges": Charge.objects.count(),
        "attempts": Attempt.objects.count(),
        "database_mb": size >> 20,
    }


def charges_by_day() -> dict[date, int]:
    """How many were owed on each UTC day."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (billed_at AT TIME ZONE 'UTC')::date, count(*) FROM checkout_charge GROUP BY 1"
        )
        return dict(cursor.fetchall())


def measure(*, rounds: int, note: Callable[[str], None]) -> list[Opened]:
    """Open every page as an approver, round by round with the default lists; a first round warms up."""
    with override_settings(ROOT_URLCONF="bench._plain_admin", ALLOWED_HOSTS=["testserver"]):
        client = Client()
        client.force_login(User.objects.get(username=f"bench-{APPROVER}"))
        found = [*desks(), *lists()]
        for page in found:
            note(page.name)
            with CaptureQueriesContext(connection) as asked:
                timed(client, page.address)
            page.queries.append(len(asked))
        for _ in range(rounds):
            for page in found:
                note(page.name)
                page.took.append(timed(client, page.address))
            open_plain(client, found, note)
    return found


def open_plain(client: Client, found: list[Opened], note: Callable[[str], None]) -> None:
    """The default lists, in Django's own templates: ours lie in DIRS, before them."""
    templates = [{**engine, "DIRS": []} for engine in settings.TEMPLATES]
    with override_settings(TEMPLATES=templates):
        # Templates are read anew after the change; that is nobody's time.
        timed(client, reverse("plain:checkout_hold_changelist"))
        for page in found:
            if page.plain:
                note(f"{page.name}, default")
                page.plain_took.append(timed(client, page.plain))


def timed(client: Client, address: str) -> float:
    begun = time.perf_counter()
    answer = client.get(address)
    took = 1000 * (time.perf_counter() - begun)
    if answer.status_code != 200:
        raise NotOpened(f"{address}: {answer.status_code}")
    return took


def desks() -> Iterator[Opened]:
    """Pages that are no lists."""
    month = reverse("month")
    letters = reverse("admin:checkout_dead_letters")
    yield Opened("home", reverse("finance_home"))
    yield Opened("month, the present one", month)
    yield Opened("month, the last whole one", f"{month}?month={whole_months()[-1]}")
    yield Opened("proof of a charge", reverse("charge_proof", args=[known()["charge"]]))
    yield Opened("in-doubt desk", reverse("in_doubt"))
    yield Opened("cash expected", reverse("cash"))
    yield Opened("match by hand", reverse("match_by_hand"))
    yield Opened("dead letters", letters)
    yield Opened("dead letters, too many in a lane", f"{letters}?look=yes&lane=cis")
    lately = timezone.now() - timedelta(days=25)
    choice = f"look=yes&lane=cis&since={lately:%Y-%m-%dT%H:%M}"
    yield Opened("dead letters, dry run of a lane", f"{letters}?{choice}")
    yield Opened("close the next day", reverse("admin:settlements_booksclose_next"))
    days = BooksClose.objects.filter(span=Span.DAY).order_by("-first_day")
    for name, model, rows in (
        ("a charge", CHARGE, Charge.objects.filter(pk=known()["charge"])),
        ("a discrepancy", "settlements_discrepancy", Discrepancy.objects.order_by("-id")),
        ("a proposal", "settlements_proposal", Proposal.objects.order_by("-id")),
        ("a settlement", "settlements_settlement", Settlement.objects.order_by("closed_at")),
        ("a payout", "settlements_payout", Payout.objects.order_by("id")),
        ("close of a day, waits", "settlements_booksclose", days.filter(decision=Decision.OPEN)),
        ("certificate of a day", "settlements_booksclose", days.exclude(decision=Decision.OPEN)),
        (
            "certificate of a month",
            "settlements_booksclose",
            BooksClose.objects.filter(span=Span.MONTH).order_by("first_day"),
        ),
    ):
        yield Opened(name, reverse(f"admin:{model}_change", args=[rows[0].pk]))


def lists() -> Iterator[Opened]:
    """LISTS, with what there is to search for."""
    values = known()
    for name, (model, ours, default) in LISTS.items():
        address = f"{reverse(f'admin:{model}_changelist')}?{ours.format(**values)}"
        if default is None:
            yield Opened(name, address)
        else:
            plain = f"{reverse(f'plain:{model}_changelist')}?{default.format(**values)}"
            yield Opened(name, address, plain)


def pictured() -> dict[str, str]:
    """What bench/_pictures.py takes pictures of."""
    desk = reverse("admin:settlements_discrepancy_changelist")
    closes = BooksClose.objects.filter(span=Span.DAY, decision=Decision.OPEN)
    cents = Discrepancy.objects.filter(STANDING, kind=Kind.CAPTURED).order_by("-difference")
    proposal = Proposal.objects.order_by("-id")[0]
    return {
        "home": reverse("finance_home"),
        "month": reverse("month"),
        "charges": reverse("admin:checkout_charge_changelist"),
        "proof": reverse("charge_proof", args=[known()["charge"]]),
        "discrepancies": f"{desk}?standing=yes",
        "discrepancy": reverse("admin:settlements_discrepancy_change", args=[cents[0].pk]),
        "proposal": reverse("admin:settlements_proposal_change", args=[proposal.pk]),
        "in-doubt": reverse("in_doubt"),
        "dead-letters": reverse("admin:checkout_dead_letters"),
        "close": reverse("admin:settlements_booksclose_change", args=[closes[0].pk]),
        "cash": reverse("cash"),
        "match": reverse("match_by_hand"),
    }


def made_ready(password: str) -> str:
    """The approver's name, to sign in with by the form; a pass has just run, as it does all day."""
    reconciliation.reconcile_incremental(clock=Clock(), ages=Ages())
    user = User.objects.get(username=f"bench-{APPROVER}")
    user.set_password(password)
    user.save()
    return user.username


def known() -> dict[str, str]:
    """A charge somewhere in the history, with its capture and its creator, and the oldest month."""
    attempt = Attempt.objects.filter(outcome="captured").order_by("started_at")[500]
    charge = Charge.objects.select_related("creator").get(pk=attempt.charge_id)
    return {
        "charge": str(charge.pk),
        "attempt": str(attempt.pk),
        "creator": charge.creator.external_id,
        "month": whole_months()[0],
    }


def whole_months() -> list[str]:
    """Months that are closed, oldest first."""
    closed = BooksClose.objects.filter(span=Span.MONTH).order_by("first_day")
    return [f"{day:%Y-%m}" for day in closed.values_list("first_day", flat=True)]


def ratios(found: list[Opened], median: Callable[[list[float]], float]) -> dict[str, float]:
    """How many times as long the default list takes, by page."""
    beside: dict[str, float] = defaultdict(float)
    for page in found:
        if page.plain_took:
            beside[page.name] = median(page.plain_took) / median(page.took)
    return beside
