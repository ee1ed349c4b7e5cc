"""The settlement schedule that a lane's new creators get, from a day on."""

from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest

from checkout import wiring
from checkout.clock import Moment
from checkout.desk import AskingAdmin, Question, ReasonForm, in_commit
from settlements.calendar import FEDERAL_RESERVE, Rule
from settlements.models import HolidayRule, RouteSchedule, ScheduleInterval
from settlements.settling import (
    LONGEST_DELAY,
    DayIsPast,
    DefaultDiffers,
    UnfitAnchors,
    UnknownCalendar,
    agree_default,
    anchors_of,
)

AGREE: Final = Question(
    action="agree",
    title="Agree on a lane's default settlement schedule",
    consequence="It holds for creators who subscribe from that day on. Who has a schedule keeps it, and "
    "nothing that was agreed or settled changes.",
    verb="Agree on it",
)
# Beside which field of the form a refusal is shown.
FIELDS: Final[dict[type[Exception], str]] = {
    UnknownCalendar: "calendar",
    DayIsPast: "valid_from",
    DefaultDiffers: "valid_from",
}


class DefaultForm(ReasonForm):
    """In which periods a lane's new creators are settled, and when the money must land."""

    lane = forms.ChoiceField(
        required=False, help_text="A lane's own default goes before that of any lane."
    )
    valid_from = forms.DateField(
        label="From",
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="UTC, business clock; today or later.",
    )
    interval = forms.ChoiceField(choices=ScheduleInterval.choices, initial=ScheduleInterval.MONTH)
    anchor_days = forms.CharField(
        required=False,
        max_length=120,
        initial="1",
        help_text="Days a period begins on, such as 1, 15: 1 (Monday) to 7 of a week, 1 to 31 of a month; "
        "a day past the end of a short month is its last. None for days.",
    )
    delay_days = forms.IntegerField(
        min_value=0,
        max_value=LONGEST_DELAY,
        initial=2,
        help_text="Calendar days from the period's last day to the day its money must have landed.",
    )
    holiday_rule = forms.ChoiceField(
        choices=HolidayRule.choices, help_text="Where the money lands if that is no business day."
    )
    calendar = forms.CharField(
        max_length=40, initial=FEDERAL_RESERVE, help_text="Whose holidays; weekends count always."
    )
    field_order = [
        "lane",
        "valid_from",
        "interval",
        "anchor_days",
        "delay_days",
        "holiday_rule",
        "calendar",
        "reason",
    ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lanes = [("", "any lane"), *((lane, lane) for lane in settings.LANES)]
        self.fields["lane"].choices = lanes  # type: ignore[attr-defined]
        today = wiring.clock().business_now().date()
        self.fields["valid_from"].widget.attrs["min"] = str(today)

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if "interval" in said and "anchor_days" in said:
            try:
                said["anchor_days"] = anchors_of(
                    interval=said["interval"], text=said["anchor_days"]
                )
            except UnfitAnchors as refused:
                self.add_error("anchor_days", str(refused))
        return said


@admin.register(RouteSchedule)
class RouteScheduleAdmin(AskingAdmin):
    question = AGREE
    form_class = DefaultForm
    list_display = (
        "shown_lane",
        "valid_from",
        "interval",
        "anchor_days",
        "delay_days",
        "holiday_rule",
        "calendar",
    )
    ordering = ("lane", "-valid_from")

    @admin.display(description="lane")
    def shown_lane(self, default: RouteSchedule) -> str:
        return default.lane or "any lane"

    def answer(self, request: HttpRequest, form: ReasonForm) -> None:
        """Agree on a lane's default from a day on; another one is another row."""
        said = dict(form.cleaned_data)
        because, lane, day = (said.pop(name) for name in ("reason", "lane", "valid_from"))

        def agree(now: Moment) -> tuple[RouteSchedule, bool]:
            added = agree_default(lane=lane, valid_from=day, rule=Rule(**said), now=now)
            default = RouteSchedule.objects.get(lane=lane, valid_from=day)
            if added:
                self.log_addition(request, default, f"Agreed: {default.in_words}: {because}")
            return default, added

        try:
            default, added = in_commit(agree)
        except tuple(FIELDS) as refused:
            form.add_error(FIELDS[type(refused)], str(refused))
            return
        text = f"Agreed: {default}" if added else f"{default} was agreed before; nothing changed"
        self.message_user(request, text, messages.SUCCESS if added else messages.INFO)
