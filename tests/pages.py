"""Every page of the admin, by the name of its address; a new one must be told here, or exempt with a reason.

`addresses` says where the pages stand once tests/factories_pages.py has made a row behind each.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from django.contrib import admin
from django.db import transaction
from django.db.models import Model, QuerySet
from django.test import RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from checkout.models import Attempt, AttemptOutcome, Case, Charge
from settlements.formats.lines import Told
from settlements.models import (
    BooksClose,
    Discrepancy,
    ExportRun,
    ExportWhat,
    Proposal,
    StatementImport,
    StatementLine,
)
from settlements.roles import ANALYST, OPERATOR
from settlements.uploads import keep_upload
from tests.factories import LANE, World
from tests.factories_pages import BANK_STATEMENT

# Of each kind of row whose page looks otherwise, one; of every other model the first row.
KINDS: Final[dict[type[Model], tuple[str, ...]]] = {
    Charge: ("state",),
    Attempt: ("outcome",),
    Case: ("kind",),
    Discrepancy: ("code",),
    Proposal: ("way", "decision"),
    BooksClose: ("span", "decision"),
    ExportRun: ("state",),
    StatementImport: ("state",),
}
# Who may upload has a file under review, each another: one that is refused, one of a bank.
REVIEWED: Final = {ANALYST: b"not a statement", OPERATOR: BANK_STATEMENT.read_bytes()}

# Names under which no role finds a page, and why.
ANSWERS: Final = {
    "admin:logout": "posted; it leads to the page to sign in",
    "admin:autocomplete": "JSON for a field that no form of ours has",
    "admin:jsi18n": "a script",
    "admin:view_on_site": "a redirect; no model of ours has a page elsewhere",
    "admin:checkout_bulkrequeue_decide": "posted; it leads back to the requeue's page",
    "admin:settlements_proposal_decide": "posted; it leads back to the proposal's page",
    "admin:settlements_proposal_take_apart": "posted; it leads back to the proposal's page",
    "admin:settlements_booksclose_decide": "posted; it leads back to the certificate",
    "admin:settlements_booksclose_month": "posted; it leads to the certificate",
    "admin:settlements_exportrun_download": "posted; it answers with the file",
}
# Ends of the names that each model has.
OF_EACH_MODEL: Final = {
    "_add": "nobody adds a row by hand: 403, tests/integration/test_admin_pages.py",
    "_delete": "nobody deletes a row by hand: 403, tests/integration/test_admin_pages.py",
}
# Django's own page, the same template for every model; one with an entry and one without are walked, and
# tests/integration/test_admin_pages.py opens every model's.
HISTORIES: Final = "admin:checkout_charge_history", "admin:settlements_notice_history"
# Accounts are kept by superusers and `manage.py create_staff`; no role opens them.
NO_ROLE: Final = ("admin:auth_",)


def names() -> set[str]:
    """The name of every address below /admin/; Django's redirects have none."""
    return {name for name, at in _addresses(get_resolver().url_patterns) if at.startswith("admin/")}


def _addresses(
    patterns: list[URLPattern | URLResolver], *, before: str = "", space: str = ""
) -> Iterator[tuple[str, str]]:
    for each in patterns:
        at = f"{before}{each.pattern}"
        if isinstance(each, URLResolver):
            inside = f"{each.namespace}:" if each.namespace else space
            yield from _addresses(each.url_patterns, before=at, space=inside)
        elif each.name:
            yield f"{space}{each.name}", at


def why_exempt(name: str) -> str:
    """Why nobody walks it, or nothing."""
    if name in ANSWERS:
        return ANSWERS[name]
    if name.startswith(NO_ROLE):
        return "no role opens it: tests/integration/test_admin_roles.py"
    if name.endswith("_history") and name not in HISTORIES:
        return f"the same page as {' and '.join(HISTORIES)}"
    return next((why for end, why in OF_EACH_MODEL.items() if name.endswith(end)), "")


def models() -> list[type[Model]]:
    """What the admin shows to some role."""
    return [each for each in admin.site._registry if each._meta.app_label != "auth"]


def addresses(world: World) -> dict[str, list[str]]:
    """By the name of its address, every page that a GET opens for some role."""
    line, attempt = _a_pair()
    cause = _one_cause()
    found = {
        "finance_home": [reverse("finance_home")],
        # The same address as the former, which stands before it.
        "admin:index": [reverse("admin:index")],
        "admin:app_list": [
            reverse("admin:app_list", args=[app]) for app in ("checkout", "settlements", "admin")
        ],
        "admin:password_change": [reverse("admin:password_change")],
        "admin:password_change_done": [reverse("admin:password_change_done")],
        "month": [reverse("month")],
        "cash": [reverse("cash")],
        "in_doubt": [reverse("in_doubt")],
        "match_by_hand": [
            f"{reverse('match_by_hand')}{query}"
            for query in ("", f"?line={line.pk}", f"?line={line.pk}&attempt={attempt.pk}")
        ],
        "charge_proof": [reverse("charge_proof", args=[row.pk]) for row in rows_of(Charge)],
        "admin:checkout_dead_letters": [
            reverse("admin:checkout_dead_letters"),
            f"{reverse('admin:checkout_dead_letters')}?look=yes&lane={LANE}",
        ],
        "admin:settlements_discrepancy_together": [
            f"{reverse('admin:settlements_discrepancy_together')}?{cause}"
        ],
        "admin:checkout_hold_place": [reverse("admin:checkout_hold_place")],
        "admin:settlements_booksclose_next": [reverse("admin:settlements_booksclose_next")],
        "admin:settlements_statementimport_upload": [
            reverse("admin:settlements_statementimport_upload")
        ],
        "admin:settlements_statementimport_review": _under_review(world),
        "admin:settlements_statementterms_agree": [
            reverse("admin:settlements_statementterms_agree")
        ],
        "admin:settlements_bankterms_agree": [reverse("admin:settlements_bankterms_agree")],
        "admin:settlements_routeschedule_agree": [reverse("admin:settlements_routeschedule_agree")],
        "admin:settlements_exportrun_ask": list(_exports()),
    }
    for model in models():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        found[f"{name}_changelist"] = [reverse(f"{name}_changelist")]
        if model is Discrepancy:
            found[f"{name}_changelist"].append(
                f"{reverse(f'{name}_changelist')}?standing=yes&{cause}"
            )
        found[f"{name}_change"] = [
            reverse(f"{name}_change", args=[row.pk]) for row in rows_of(model)
        ]
    for name in HISTORIES:
        app, _, called = name.removeprefix("admin:").removesuffix("_history").partition("_")
        found[name] = [reverse(name, args=[rows_of(admin_model(app, called))[0].pk])]
    return found


def has_desk(app: str, name: str) -> bool:
    return any((app, name) == (m._meta.app_label, m._meta.model_name) for m in models())


def admin_model(app: str, name: str) -> type[Model]:
    return next(
        each
        for each in admin.site._registry
        if (each._meta.app_label, each._meta.model_name) == (app, name)
    )


def rows_of(model: type[Model]) -> list[Any]:
    """Rows that the model's list holds: one of each kind that looks otherwise, else the first."""
    desk = admin.site._registry[model]
    held: QuerySet[Any] = desk.get_queryset(RequestFactory().get("/admin/"))
    kinds = KINDS.get(model)
    if kinds is None:
        return list(held.order_by("pk")[:1])
    return list(held.order_by(*kinds, "pk").distinct(*kinds))


def _a_pair() -> tuple[StatementLine, Attempt]:
    """A line that names nobody, and the attempt in doubt."""
    line = StatementLine.objects.filter(type="charge", reference__startswith="torn-").latest("pk")
    attempt = Attempt.objects.filter(outcome=AttemptOutcome.OPEN, amount=Decimal("199.00"))
    return line, attempt.latest("started_at")


def _one_cause() -> str:
    """The query of a cause that stands, as the desk writes it."""
    row = Discrepancy.objects.filter(difference=Decimal("-0.03"), proposal=None).latest("pk")
    return f"cause={row.kind}~{row.code}~{row.lane}~{row.difference}"


def _under_review(world: World) -> list[str]:
    kept = []
    for role, content in REVIEWED.items():
        with transaction.atomic():
            upload = keep_upload(
                content=content,
                file_name="day.xml",
                lane="",
                told=Told(),
                by=role,
                now=world.clock.now(),
            )
        kept.append(reverse("admin:settlements_statementimport_review", args=[upload.sha256]))
    return kept


def _exports() -> Iterator[str]:
    for what in ExportWhat:
        address = reverse("admin:settlements_exportrun_ask", args=[what])
        if what == ExportWhat.EVIDENCE:
            yield f"{address}?charge={Charge.objects.earliest('created_at').pk}"
        elif what == ExportWhat.JOURNAL:
            yield f"{address}?month=2026-01"
        elif what == ExportWhat.CHARGES:
            yield f"{address}?lane={LANE}"
        else:
            yield address
