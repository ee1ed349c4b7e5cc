"""Lists that count, add up and sort no more rows than anybody pages through, at any size (R47)."""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.contrib import messages
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Count, F, QuerySet, Sum
from django.db.models.expressions import Combinable
from django.http import HttpRequest
from django.utils.functional import cached_property

MOST_COUNTED: Final = 2_000


@dataclass(frozen=True)
class Total:
    """What a list adds up of each row, USD: a column, or what a filter made of several.

    `called` names what is not the list's own column: a figure of another page leads to this part of it.
    """

    of: str | Combinable = ""
    called: str = ""

    @property
    def each(self) -> Combinable:
        """What is added up of each row; there must be something."""
        return F(self.of) if isinstance(self.of, str) else self.of


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts and adds up no more rows than anybody pages through, along the list's own index (R47).

    Beyond MOST_COUNTED the list says "more than", an estimate and no sum; the way on is a filter or a
    search.
    """

    # What `usd` adds up; nothing where rows carry no money.
    total = Total()

    @cached_property
    def measured(self) -> tuple[int, Decimal | None]:
        """Rows up to one more than MOST_COUNTED, and their USD: over a LIMIT, not over the table."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        figures: dict[str, Any] = {"count": Count("pk")}
        if self.total.of:
            rows = rows.annotate(totalled=self.total.each)
            figures["usd"] = Sum("totalled")
        found = rows[: MOST_COUNTED + 1].aggregate(**figures)
        return found["count"], found.get("usd")

    @property
    def counted(self) -> int:
        return self.measured[0]

    @property
    def usd(self) -> Decimal | None:
        """The sum in USD of all rows of the list, or None while it goes on beyond what was counted."""
        if self.is_more or not self.total.of:
            return None
        return self.measured[1] or Decimal("0.00")

    @cached_property
    def count(self) -> int:
        return min(self.counted, MOST_COUNTED)

    @property
    def is_more(self) -> bool:
        return self.counted > MOST_COUNTED

    @cached_property
    def estimate(self) -> int:
        """How many rows the planner takes the whole list for, to two digits; nothing is read for it."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        (plan,) = json.loads(rows.order_by().explain(format="json"))
        guess = max(int(plan["Plan"]["Plan Rows"]), MOST_COUNTED)
        return round(guess, 2 - len(str(guess)))


class BoundedList(ChangeList):
    """A list that sorts by a column where it sorts no more rows than it counts (R47).

    Django heeds `?o=` in an address whatever `sortable_by` says, and an order without an index reads
    the whole table; so a list that is longer keeps its own order, and says so.
    """

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        if ORDER_VAR in self.params and queryset[: MOST_COUNTED + 1].count() > MOST_COUNTED:
            del self.params[ORDER_VAR]
            told = (
                f"More than {MOST_COUNTED:,} rows are not sorted: choose fewer by a filter first."
            )
            self.model_admin.message_user(request, told, messages.WARNING)
        return super().get_ordering(request, queryset)
