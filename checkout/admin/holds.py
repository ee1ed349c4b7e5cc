"""Which lane may charge whom, and what is stopped now."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from checkout import routing, wiring
from checkout.admin.charges import LaneFilter
from checkout.clock import Moment
from checkout.desk import AskingAdmin, Question, ReadOnlyAdmin, ReasonForm, badge, decide, in_commit
from checkout.models import Hold, HoldKind, HoldScope, Plan, RoutingRule
from checkout.targets import Target, read_target


class HoldForm(ReasonForm):
    """Why, and for how long, collection is stopped."""

    kind = forms.ChoiceField(
        choices=[
            (HoldKind.PAUSE, "pause: a lane or plan rests"),
            (HoldKind.HOLD, "hold: look into"),
        ]
    )
    minutes = forms.IntegerField(
        min_value=1,
        max_value=60 * 24 * 30,
        required=False,
        help_text="How long; empty means until somebody lifts it.",
    )
    field_order = ["kind", "minutes", "reason"]


class PlaceHoldForm(HoldForm):
    """What is stopped too; creators are chosen on their own list."""

    target = forms.ChoiceField(label="What")
    field_order = ["target", "kind", "minutes", "reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plans = Plan.objects.order_by("code").values_list("code", flat=True)
        self.fields["target"].choices = [  # type: ignore[attr-defined]
            ("all", "all of collection"),
            ("lanes", [(lane, f"lane {lane}") for lane in settings.LANES]),
            ("plans", [(f"plan:{code}", f"plan {code}") for code in plans]),
        ]


def place_hold(target: Target, answers: Mapping[str, Any], by: str, now: Moment) -> Hold:
    """Place the hold that a person filled in, dated by the real clock; in the caller's transaction."""
    minutes = answers["minutes"]
    return routing.place_hold(
        kind=HoldKind(answers["kind"]),
        scope=target.scope,
        subject=target.subject,
        reason=answers["reason"],
        by=by,
        until=now.real + timedelta(minutes=minutes) if minutes else None,
        now=now,
    )


@admin.register(RoutingRule)
class RoutingRuleAdmin(ReadOnlyAdmin):
    list_display = ("country", "lane", "valid_from", "valid_to", "reason", "source", "source_date")
    list_filter = (LaneFilter,)
    ordering = ("country", "-valid_from")
    search_fields = ("country",)
    search_help_text = "A country's two letters"

    def named(self, term: str) -> Q:
        return Q(country=term.upper())


@admin.register(Hold)
class HoldAdmin(AskingAdmin):
    question = Question(
        action="place",
        title="Place a hold or a pause",
        consequence="Nothing of the target is charged meanwhile. It uses up no attempt and no "
        "round; what is due is dispatched again afterwards.",
        verb="Place it",
    )
    form_class = PlaceHoldForm
    list_display = ("placed_at", "shown_state", "kind", "what", "reason", "placed_by", "until")
    list_filter = ("kind", "scope")
    ordering = ("-placed_at", "-id")
    export_name = "holds"
    actions = ("lift",)

    @admin.display(description="what")
    def what(self, hold: Hold) -> str:
        return str(Target(HoldScope(hold.scope), hold.subject))

    @admin.display(description="state")
    def shown_state(self, hold: Hold) -> SafeString:
        if hold.lifted_at:
            return badge("closed", f"lifted by {hold.lifted_by}")
        if hold.until and hold.until <= wiring.clock().real_now():
            return badge("closed", "ran out")
        return badge("paused", "in force")

    @admin.action(description="Lift the chosen holds…", permissions=["decide"])
    def lift(self, request: HttpRequest, chosen: QuerySet[Hold]) -> HttpResponse | None:
        return decide(
            self,
            request,
            chosen,
            Question(
                action="lift",
                title="Lift holds",
                consequence="Collection goes on at once where nothing else holds it.",
                verb="Lift",
            ),
            act=lambda hold, _, by, now: routing.lift_hold(hold_id=hold.pk, by=by, now=now),
            refusals=(routing.UnknownHold,),
        )

    def answer(self, request: HttpRequest, form: ReasonForm) -> None:
        """Place a hold or a pause on all, a lane or a plan; creators have their own list's action."""
        target = read_target(form.cleaned_data["target"], lanes=settings.LANES)
        by = request.user.get_username()

        def place(now: Moment) -> Hold:
            hold = place_hold(target, form.cleaned_data, by, now)
            self.log_addition(request, hold, f"Placed: {hold.reason}")
            return hold

        hold = in_commit(place)
        self.message_user(request, f"Stopped: {target} ({hold.reason})", messages.SUCCESS)
