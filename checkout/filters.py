"""Filters of a list that another page's figure sets: they offer nothing themselves, and say what they chose."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from checkout.page import day_named


def filter_by_link(
    parameter: str, called: str, on: Callable[[Any], Q], *, read: Callable[[str], Any] = day_named
) -> type[admin.SimpleListFilter]:
    """A filter that offers nothing itself: the figure of another page names the day, or the lane."""

    class FilterByLink(admin.SimpleListFilter):
        title = called
        parameter_name = parameter

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            named = request.GET.get(parameter, "")
            return [(named, named)] if read(named) else []

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            found = read(self.value() or "")
            return queryset.filter(on(found)) if found else queryset

    return FilterByLink
