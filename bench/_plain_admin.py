"""The lists of bench/admin_pages.py as Django's default ModelAdmin shows them, beside the product's addresses.

What somebody writes in an afternoon: columns, filters by field, fields to search. Everything else is
Django's default: 100 rows a page, two counts, filters that ask the table for their choices.
"""

from collections.abc import Sequence
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.urls import include, path

from checkout.models import Attempt, Case, Charge, Hold, LedgerEntry, OutboxMessage
from settlements.models import (
    Discrepancy,
    Payout,
    ReconciliationRun,
    Settlement,
    StatementImport,
    StatementLine,
)

site = AdminSite(name="plain")


def list_of(
    model: type[Model], columns: str, *, filters: Sequence[str] = (), search: Sequence[str] = ()
) -> None:
    given: dict[str, Any] = {
        "list_display": columns.split(),
        "list_filter": filters,
        "search_fields": search,
    }
    site.register(model, type(f"Plain{model.__name__}", (ModelAdmin,), given))


list_of(
    Charge,
    "created_at id creator terms period_start amount lane state",
    filters=("state", "lane", "awaits"),
    search=("id", "creator__external_id"),
)
list_of(
    Attempt,
    "started_at id charge number lane outcome decline_code captured_amount",
    filters=("outcome", "decline_class"),
    search=("id",),
)
list_of(
    OutboxMessage,
    "id created_at door type subject event_seq",
    filters=("door", "type"),
    search=("subject",),
)
list_of(LedgerEntry, "posted_at kind charge", filters=("kind",), search=("charge__id",))
list_of(
    StatementLine,
    "id statement number type booked_at gross fee net key",
    filters=("type",),
    search=("key",),
)
list_of(
    Settlement,
    "closed_at creator period_start period_end net line_count lands_on proved_at",
    search=("creator__external_id",),
)
list_of(Payout, "reference lane value_on gross fees net paid landed_on", filters=("lane",))
list_of(StatementImport, "imported_at file_name lane first_day line_count movement state")
list_of(
    Discrepancy,
    "opened_at difference kind code explanation assigned_to charge",
    filters=("kind", "code"),
)
list_of(Case, "opened_at kind charge amount reason closed_at", filters=("kind",))
list_of(Hold, "placed_at kind scope subject reason placed_by until", filters=("kind", "scope"))
list_of(ReconciliationRun, "started_at mode creators marks opened cleared", filters=("mode",))
list_of(LogEntry, "action_time user content_type object_repr change_message")

urlpatterns = [path("plain/", site.urls), path("", include("config.urls"))]
