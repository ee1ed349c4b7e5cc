"""Filters of a list: by choices known beforehand, by month, by person, or set by another page's figure."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from checkout import wiring
from checkout.lists import Total
from checkout.page import day_named, month_named, months_before


def fixed_filter(
    parameter: str,
    called: str,
    choices: Mapping[str, tuple[str, Q]],
    totals: Mapping[str, Total] | None = None,
) -> type[admin.SimpleListFilter]:
    """A filter whose choices are known beforehand: value → (label, condition).

    `totals` says of a value what the list adds up then, where that is not its own column.
    """

    class FixedFilter(admin.SimpleListFilter):
        title = called
        parameter_name = parameter

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [(value, label) for value, (label, _) in choices.items()]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            chosen = choices.get(self.value() or "")
            return queryset.filter(chosen[1]) if chosen else queryset

        @staticmethod
        def total_in(request: HttpRequest) -> Total | None:
            return totals.get(request.GET.get(parameter, "")) if totals else None

    return FixedFilter


def month_filter(
    parameter: str, called: str, within: Callable[[date, date], Q]
) -> type[admin.SimpleListFilter]:
    """A filter by calendar month, such as 2026-01; `within(first, last)` is its condition, both included.

    It offers the last twelve months of the business clock, and prints any other that an address names.
    """

    class MonthFilter(admin.SimpleListFilter):
        title = called
        parameter_name = parameter

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            months = months_before(wiring.clock().business_now().date())
            named = request.GET.get(parameter, "")
            if month_named(named) and named not in months:
                months = [*months, named]
            return [(each, each) for each in months]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            month = month_named(self.value() or "")
            return queryset.filter(within(*month)) if month else queryset

    return MonthFilter


def filter_by_person(
    parameter: str, called: str, choices: Mapping[str, tuple[str, Callable[[str], Q]]]
) -> type[admin.SimpleListFilter]:
    """As `fixed_filter`, but a condition about who looks at the list: value → (label, name → condition)."""

    class FilterByPerson(admin.SimpleListFilter):
        title = called
        parameter_name = parameter

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [(value, label) for value, (label, _) in choices.items()]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            chosen = choices.get(self.value() or "")
            return queryset.filter(chosen[1](request.user.get_username())) if chosen else queryset

    return FilterByPerson


def filter_by_link(
    parameter: str,
    called: str,
    on: Callable[[Any], Q],
    *,
    read: Callable[[str], Any] = day_named,
    total: Callable[[Any], Total | None] | None = None,
) -> type[admin.SimpleListFilter]:
    """A filter that offers nothing itself: the figure of another page names the day, or the lane.

    `total` says what the list adds up then, where that is not its own column.
    """

    class FilterByLink(admin.SimpleListFilter):
        title = called
        parameter_name = parameter

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            named = request.GET.get(parameter, "")
            return [(named, named)] if read(named) else []

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            found = read(self.value() or "")
            return queryset.filter(on(found)) if found else queryset

        @staticmethod
        def total_in(request: HttpRequest) -> Total | None:
            found = read(request.GET.get(parameter, ""))
            return total(found) if total and found else None

    return FilterByLink
