"""The four roles of staff and what each may do; groups of Django's, made by migration.

This table is the truth: a migration calls `settle_roles`, and so does the next one after a change
here. A test holds the groups and the table against each other, and every page against every role.
Who proposes and approves must be two people whatever their roles (R43); the database says so.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

# App, model, action: Django's codename is action_model.
Right: TypeAlias = tuple[str, str, str]

VIEWER: Final = "viewer"
ANALYST: Final = "analyst"
APPROVER: Final = "approver"
OPERATOR: Final = "operator"

_SEEN_BY_FINANCE: Final = {
    "checkout": (
        "creator",
        "plan",
        "subscription",
        "subscriptionterms",
        "instrument",
        "routingrule",
        "hold",
        "charge",
        "attempt",
        "outboxmessage",
        "case",
        "bulkrequeue",
        "ledgerentry",
        "ledgerposting",
    ),
    "settlements": (
        "capture",
        "discrepancy",
        "proposal",
        "booksclose",
        "deskaction",
        "reconciliationrun",
        "statementimport",
        "statementline",
        "statementexpectation",
        "statementfile",
        "statementterms",
        "bankstatement",
        "bankentry",
        "bankexpectation",
        "bankterms",
        "settlement",
        "settlementline",
        "openperiod",
        "payout",
        "payoutpart",
        "payoutcredit",
        "settlementschedule",
        "routeschedule",
        "holiday",
        "feeterms",
        "notice",
        "noticedelivery",
        "exportrun",
    ),
    # What was decided in the admin, by whom and why.
    "admin": ("logentry",),
}
_SEEN_BY_OPERATORS: Final = {
    "checkout": ("account", "apikey", "webhookdelivery", "heartbeat"),
}


def _views(tables: Mapping[str, tuple[str, ...]]) -> frozenset[Right]:
    return frozenset((app, model, "view") for app, models in tables.items() for model in models)


_VIEWS: Final = _views(_SEEN_BY_FINANCE)
# Asks for files of what the pages show, and takes them away.
_EXPORTS: Final[frozenset[Right]] = frozenset(
    {("settlements", "exportrun", "add"), ("settlements", "exportrun", "download")}
)

ROLES: Final[Mapping[str, frozenset[Right]]] = {
    VIEWER: _VIEWS,
    ANALYST: _VIEWS
    | _EXPORTS
    | {
        # Proposes what became of an attempt in doubt.
        ("checkout", "attempt", "change"),
        # Uploads statements, says which files are owed, and how new creators are settled.
        ("settlements", "statementimport", "add"),
        ("settlements", "statementterms", "change"),
        ("settlements", "bankterms", "change"),
        ("settlements", "routeschedule", "change"),
        # Assigns, notes, proposes, withdraws and opens again at the discrepancy desk.
        ("settlements", "discrepancy", "change"),
        # Proposes to close a day or a month.
        ("settlements", "booksclose", "change"),
    },
    APPROVER: _VIEWS
    | _EXPORTS
    | {
        # Approves verdicts and bill runs; gives a charge up for good.
        ("checkout", "case", "approve"),
        # The second person of a bulk requeue above the limit.
        ("checkout", "bulkrequeue", "approve"),
        ("settlements", "proposal", "approve"),
        # Locks a day or a month that another person proposed.
        ("settlements", "booksclose", "approve"),
        ("checkout", "charge", "write_off"),
    },
    OPERATOR: _VIEWS
    | _views(_SEEN_BY_OPERATORS)
    | {
        # Requeues, closes what was looked into, holds and lifts, cancels.
        ("checkout", "charge", "change"),
        ("checkout", "bulkrequeue", "change"),
        ("checkout", "case", "change"),
        ("checkout", "hold", "change"),
        ("checkout", "creator", "change"),
        ("checkout", "subscription", "change"),
        ("settlements", "statementimport", "add"),
        ("settlements", "statementterms", "change"),
        ("settlements", "bankterms", "change"),
        ("settlements", "routeschedule", "change"),
    },
}


def codename(right: Right) -> str:
    """`checkout.write_off_charge`, as `has_perm` wants it."""
    app, model, action = right
    return f"{app}.{action}_{model}"


def settle_roles(apps: Any, _editor: object = None) -> None:
    """Give each role's group exactly what the table says; safe to run again.

    Django makes permissions only after all migrations; those that are missing are made here, as it
    would make them.
    """
    groups, permissions = apps.get_model("auth", "Group").objects, _permissions(apps)
    for role, rights in ROLES.items():
        group, _ = groups.get_or_create(name=role)
        group.permissions.set([permissions[right] for right in sorted(rights)])


def _permissions(apps: Any) -> dict[Right, Any]:
    """Every permission that some role has; a few statements, however many there are."""
    content_types = apps.get_model("contenttypes", "ContentType").objects
    permissions = apps.get_model("auth", "Permission").objects
    rights = sorted(set().union(*ROLES.values()))
    models = sorted({(app, model) for app, model, _ in rights})
    content_types.bulk_create(
        [content_types.model(app_label=app, model=model) for app, model in models],
        ignore_conflicts=True,
    )
    type_of = {(each.app_label, each.model): each for each in content_types.all()}
    permissions.bulk_create(
        [
            permissions.model(
                content_type=type_of[app, model],
                codename=f"{action}_{model}",
                name=f"Can {action.replace('_', ' ')} {model}",
            )
            for app, model, action in rights
        ],
        ignore_conflicts=True,
    )
    by_name = {(each.content_type_id, each.codename): each for each in permissions.all()}
    return {
        (app, model, action): by_name[type_of[app, model].pk, f"{action}_{model}"]
        for app, model, action in rights
    }


def forget_roles(apps: Any, _editor: object = None) -> None:
    """Remove the groups; staff keeps its accounts and loses these rights."""
    apps.get_model("auth", "Group").objects.filter(name__in=list(ROLES)).delete()
