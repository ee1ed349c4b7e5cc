"""GET and PUT /v1/creators/{creator_id}/settlement-schedule."""

from datetime import date
from typing import Any, Final
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.views import APIView

from checkout import wiring
from checkout.http import (
    Problem,
    Text,
    answered,
    as_json,
    caller,
    in_one_commit,
    reading,
    sent_json,
    validated,
)
from checkout.http.openapi import WITH_KEY, answers
from checkout.models import Creator
from settlements.calendar import DAY, FEDERAL_RESERVE, Rule, lands_on
from settlements.models import HolidayRule, ScheduleInterval, SettlementSchedule
from settlements.settling import (
    LONGEST_DELAY,
    UnknownCalendar,
    Versions,
    change_schedule,
    holidays_of,
    present_period,
    schedule_for,
    unfit_anchors,
)

BY_API: Final = "the API"


class JsonInteger(serializers.IntegerField):
    """A JSON number without a fraction; no text and no boolean becomes one."""

    def to_internal_value(self, data: object) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return int(super().to_internal_value(data))


class NewSchedule(serializers.Serializer[Any]):
    """How a creator's charges are grouped, and when the money of a period must have landed."""

    interval = serializers.ChoiceField(choices=ScheduleInterval.choices)
    anchor_days = serializers.ListField(
        child=JsonInteger(min_value=1, max_value=31),
        default=list,
        max_length=31,
        help_text="Days a period begins on: 1 (Monday) to 7 of a week, 1 to 31 of a month; a day past "
        "the end of a short month is its last. None for days.",
    )
    delay_days = JsonInteger(
        min_value=0,
        max_value=LONGEST_DELAY,
        help_text="Calendar days from the period's last day to the day its money must have landed.",
    )
    holiday_rule = serializers.ChoiceField(choices=HolidayRule.choices)
    calendar = Text(
        max_length=40, default=FEDERAL_RESERVE, help_text="Whose holidays; weekends count always."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The anchors in order; raises ValidationError when they do not fit the interval."""
        said = unfit_anchors(attrs["interval"], attrs["anchor_days"])
        if said:
            raise serializers.ValidationError({"anchor_days": said})
        return attrs | {"anchor_days": sorted(attrs["anchor_days"])}


class VersionShown(NewSchedule):
    """One version of the schedule; `active_to` is the first day it no longer holds."""

    version = serializers.IntegerField()
    active_from = serializers.DateField()
    active_to = serializers.DateField(allow_null=True)


class PeriodShown(serializers.Serializer[Any]):
    """The present period; UTC days."""

    start = serializers.DateField()
    end = serializers.DateField(help_text="The first day after the period.")
    lands_on = serializers.DateField(help_text="The day its money must have landed.")


class ScheduleShown(serializers.Serializer[Any]):
    """What is in force, and what follows it from the next period on."""

    creator_id = serializers.UUIDField()
    in_force = VersionShown()
    period = PeriodShown()
    upcoming = VersionShown(allow_null=True)


class SettlementScheduleOf(APIView):
    """A creator's settlement schedule."""

    @extend_schema(
        operation_id="read_settlement_schedule",
        summary="Read a creator's settlement schedule",
        responses=answers({200: ScheduleShown}, *WITH_KEY, "not-found"),
    )
    def get(self, request: Request, creator_id: UUID) -> HttpResponse:
        account_id, today = caller(request).account_id, wiring.clock().now().business.date()

        def look() -> dict[str, object]:
            _require(account_id, creator_id)
            return _shown(creator_id, today)

        return answered(as_json(reading(request, look)))

    @extend_schema(
        operation_id="change_settlement_schedule",
        summary="Change a creator's settlement schedule from the next period on",
        description="The same body again changes nothing; what is settled stays as it was settled.",
        request=NewSchedule,
        responses=answers(
            {200: ScheduleShown, 201: ScheduleShown},
            *(*WITH_KEY, "not-found", "malformed-body", "length-required", "body-too-large"),
            *("unsupported-media-type", "validation-failed", "conflict"),
        ),
        examples=[
            OpenApiExample(
                "twice a month",
                value={
                    "interval": "month",
                    "anchor_days": [1, 15],
                    "delay_days": 2,
                    "holiday_rule": "following",
                    "calendar": FEDERAL_RESERVE,
                },
                request_only=True,
            )
        ],
    )
    def put(self, request: Request, creator_id: UUID) -> HttpResponse:
        facts = validated(NewSchedule, sent_json(request))
        account_id, now = caller(request).account_id, wiring.clock().now()
        # Stored as the one anchor that a day has.
        facts["anchor_days"] = tuple(facts["anchor_days"]) or (1,)

        def change() -> tuple[bool, dict[str, object]]:
            _require(account_id, creator_id)
            is_first = schedule_for(creator_id=creator_id, today=now.business.date()) is None
            change_schedule(creator_id=creator_id, rule=Rule(**facts), by=BY_API, now=now)
            return is_first, _shown(creator_id, now.business.date())

        try:
            is_first, document = in_one_commit(request, change)
        except UnknownCalendar:
            said = ("calendar", "no holidays of a calendar with this name are known")
            raise Problem("validation-failed", "See errors.", (said,)) from None
        return answered(as_json(document), status=201 if is_first else 200)


def _require(account_id: UUID, creator_id: UUID) -> None:
    """Raise NotFound unless the creator is the account's own."""
    if not Creator.objects.filter(pk=creator_id, account_id=account_id).exists():
        raise NotFound


def _shown(creator_id: UUID, today: date) -> dict[str, object]:
    """The answer's document; raises NotFound for a creator without a schedule."""
    versions = schedule_for(creator_id=creator_id, today=today)
    if versions is None:
        raise NotFound
    return {
        "creator_id": creator_id,
        "in_force": _version(versions.in_force),
        "period": _period(versions, today),
        "upcoming": _version(versions.upcoming) if versions.upcoming else None,
    }


def _version(version: SettlementSchedule) -> dict[str, object]:
    return {
        "interval": version.interval,
        "anchor_days": [] if version.interval == DAY else version.anchor_days,
        "delay_days": version.delay_days,
        "holiday_rule": version.holiday_rule,
        "calendar": version.calendar,
        "version": version.version,
        "active_from": version.active_from,
        "active_to": version.active_to,
    }


def _period(versions: Versions, today: date) -> dict[str, object]:
    rule = versions.in_force.rule
    period = present_period(versions.in_force, today=today)
    holidays = holidays_of([rule.calendar])[rule.calendar]
    return {
        "start": period.start,
        "end": period.end,
        "lands_on": lands_on(rule=rule, end=period.end, holidays=holidays),
    }
