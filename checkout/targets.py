"""What can be stopped, as a person writes it: `all`, a lane, `plan:CODE`, `creator:ID`."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from checkout.models import Account, Creator, HoldScope, Plan


class UnknownTarget(Exception):
    """Nothing of this name can be stopped; the text says what can."""


@dataclass(frozen=True)
class Target:
    """The scope and subject of a hold."""

    scope: HoldScope
    subject: str

    def __str__(self) -> str:
        match self.scope:
            case HoldScope.ALL:
                return "all"
            case HoldScope.LANE:
                return self.subject
            case _:
                return f"{self.scope}:{self.subject}"


def read_target(text: str, *, lanes: Collection[str]) -> Target:
    """Read what somebody wants stopped; raises UnknownTarget with what may be written instead.

    A creator is named by its id, or by an external id that only one account uses.
    """
    kind, colon, name = text.partition(":")
    if text == "all":
        return Target(HoldScope.ALL, "")
    if kind == "plan" and colon:
        return _plan(name)
    if kind == "creator" and colon:
        return _creator(name)
    if text in lanes:
        return Target(HoldScope.LANE, text)
    raise UnknownTarget(
        f"there is no lane {text!r}; write all, plan:CODE, creator:ID or one of "
        + ", ".join(sorted(lanes))
    )


def _plan(code: str) -> Target:
    if not Plan.objects.filter(pk=code).exists():
        known = ", ".join(Plan.objects.order_by("code").values_list("code", flat=True)[:20])
        raise UnknownTarget(f"there is no plan {code!r}; the plans are {known or 'none'}")
    return Target(HoldScope.PLAN, code)


def _creator(name: str) -> Target:
    try:
        found = list(Creator.objects.filter(pk=UUID(name)).values_list("id", flat=True))
    except ValueError:
        found = creators_named(name)
    if len(found) > 1:
        raise UnknownTarget(f"several accounts have a creator {name!r}; write the creator's id")
    if not found:
        raise UnknownTarget(f"there is no creator {name!r}, neither as id nor as external id")
    return Target(HoldScope.CREATOR, str(found[0]))


def creators_named(external_id: str) -> list[UUID]:
    """The creators of any account with this external id, found by its unique index per account."""
    accounts = Account.objects.values_list("id", flat=True)
    return list(
        Creator.objects.filter(account_id__in=list(accounts), external_id=external_id)
        .order_by("id")
        .values_list("id", flat=True)
    )
