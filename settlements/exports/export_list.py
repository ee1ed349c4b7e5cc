"""What a list to export is: its columns, the filters it takes, its order, and what it sums up."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class Type(StrEnum):
    """What stands in a column. Only `text` was written by somebody, and is guarded (R48)."""

    TEXT = "text"
    USD = "usd"
    COUNT = "count"
    DAY = "day"
    TIME = "time"


@dataclass(frozen=True)
class Column:
    """A column's heading and the SQL expression behind it."""

    name: str
    sql: str
    type: Type = Type.TEXT


@dataclass(frozen=True)
class ExportList:
    """One list. `key` is the SQL of a row's id, `total` that of what the list's USD total adds up.

    `filters` holds, by the option's name, a condition with the one parameter `%(<name>)s`; a day of
    `from` is included, one of `to` is not. `only` holds for every row, whatever the filters. An order is
    total (it ends with a key), so that the same rows make the same bytes.
    """

    name: str
    what: str
    columns: tuple[Column, ...]
    source: str
    filters: Mapping[str, str]
    order: str
    key: str
    # Empty where rows carry no money, or none that may be added up.
    total: str = ""
    only: str = ""
    # The SELECT of what its page adds up, where that is not `total`.
    page_sum: str = ""
    # What a page's own filter is in words, when it chose the rows.
    chosen_in_words: str = ""

    @property
    def sum(self) -> str:
        """The SQL of the list's USD total; empty where it has none."""
        return self.page_sum or (f"sum({self.total})" if self.total else "")


class FilterNotTaken(Exception):
    """The list has no such filter."""


def conditions(wanted: ExportList, given: Mapping[str, object]) -> list[str]:
    """The list's own conditions for what was given; raises FilterNotTaken, which names what it takes."""
    for name in given:
        if name not in wanted.filters:
            raise FilterNotTaken(
                f"{wanted.name} takes no --{name}; it takes {', '.join(wanted.filters)}"
            )
    return [*([wanted.only] if wanted.only else []), *(wanted.filters[name] for name in given)]


def chosen_by_page(
    wanted: ExportList, *, ids: str, in_words: str, page_sum: str = ""
) -> ExportList:
    """The list with exactly the rows that a page shows; `ids` is the SELECT of their ids, whole.

    It takes the place of what the list holds by itself: the page has its own idea of that, and of what
    it adds up (`page_sum`, the SELECT of it), where that is not the list's own column.
    """
    only = f"{wanted.key} IN ({ids.replace('%', '%%')})"
    page_sum = f"({page_sum.replace('%', '%%')})" if page_sum else ""
    return replace(wanted, only=only, chosen_in_words=in_words, page_sum=page_sum)


def times(column: str) -> dict[str, str]:
    """From a UTC day up to another one, of a time."""
    return {
        "from": f"{column} >= %(from)s::date::timestamp AT TIME ZONE 'UTC'",
        "to": f"{column} < %(to)s::date::timestamp AT TIME ZONE 'UTC'",
    }


def days(column: str) -> dict[str, str]:
    """From a day up to another one, of a date."""
    return {"from": f"{column} >= %(from)s::date", "to": f"{column} < %(to)s::date"}


def standing(condition: str) -> dict[str, str]:
    """What nobody and nothing has ended yet, or what was."""
    return {"standing": f"({condition}) = (%(standing)s = 'yes')"}
