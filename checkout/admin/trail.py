"""The audit trail of the admin, and how it is narrowed: by month, by person, by what was decided about."""

from datetime import date
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from checkout.clock import start_and_end
from checkout.desk import ReadOnlyAdmin
from checkout.filters import month_filter

# People beside the list; any other is named in the address.
MOST: Final = 100


def _within(first: date, last: date) -> Q:
    begins, ends = start_and_end(first, last)
    return Q(action_time__gte=begins, action_time__lt=ends)


class PersonFilter(admin.SimpleListFilter):
    """By the name somebody signs in under, whether he still may or not."""

    title = "person"
    parameter_name = "who"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = list(User.objects.order_by("username").values_list("username", flat=True)[:MOST])
        named = request.GET.get("who", "")
        return [(name, name) for name in [*names, *({named} - {*names, ""})]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        # The id, not a join: its own index finds few, and the newest of many are soon found.
        ids = list(User.objects.filter(username=self.value()).values_list("pk", flat=True))
        return queryset.filter(user_id__in=ids)


class KindFilter(admin.SimpleListFilter):
    """By what was decided about: any table of the admin."""

    title = "about what"
    parameter_name = "about"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        kinds = {
            model._meta.label_lower: str(model._meta.verbose_name)
            for model in admin.site._registry
            if model._meta.app_label in {"checkout", "settlements"}
        }
        return sorted(kinds.items(), key=lambda kind: kind[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        app, _, model = (self.value() or "").partition(".")
        try:
            kind = ContentType.objects.get_by_natural_key(app, model)
        except ContentType.DoesNotExist:
            return queryset.none() if self.value() else queryset
        return queryset.filter(content_type=kind)


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """Who decided what, on a page or by command, and why; the discrepancy desk keeps a trail of its own."""

    list_display = ("action_time", "user", "content_type", "object_repr", "change_message")
    list_display_links = ("action_time",)
    list_select_related = ("user", "content_type")
    # Along an index of ours (migration 0022): a month is a stretch of it.
    ordering = ("-action_time", "-id")
    export_name = "audit-trail"
    list_filter = (
        month_filter("month", "month (UTC)", _within),
        PersonFilter,
        KindFilter,
    )
    search_fields = ("object_id",)
    search_help_text = "The id of what was decided about"

    def named(self, term: str) -> Q:
        return Q(object_id=term.strip())
