"""What the API is sent and what it answers, field by field; the OpenAPI document is made from these."""

from typing import Any, Final
from zoneinfo import available_timezones

from django.core.validators import EmailValidator, RegexValidator
from rest_framework import serializers

from checkout.gateways import DeclineClass
from checkout.http import Instant, Money, Text, Uuid, WholeNumber
from checkout.models import Charge, ChargeState, Creator

TIME_ZONES: Final = frozenset(available_timezones())
LONGEST_WAIT: Final = 20


class NewCreator(serializers.Serializer[Any]):
    """A creator of the account, in the country that decides which processor may charge."""

    external_id = Text(max_length=64, help_text="The platform's own id, unique in the account.")
    name = Text(max_length=200)
    email = Text(max_length=254, validators=[EmailValidator("this is not an e-mail address")])
    country = Text(validators=[RegexValidator(r"\A[A-Z]{2}\Z", "write two capital letters")])
    time_zone = Text(max_length=64, default="UTC", help_text="An IANA name, such as Asia/Almaty.")

    def validate_time_zone(self, value: str) -> str:
        if value not in TIME_ZONES:
            raise serializers.ValidationError("this is not an IANA time zone")
        return value


class CreatorShown(serializers.Serializer[Creator]):
    """A creator; `id` is what the other calls ask for."""

    id = serializers.UUIDField()
    external_id = serializers.CharField()
    name = serializers.CharField()
    email = serializers.EmailField()
    country = serializers.CharField()
    time_zone = serializers.CharField()


class NewCheckout(serializers.Serializer[Any]):
    """A subscription to start; its first charge is collected at once."""

    creator_id = Uuid()
    plan = Text(validators=[RegexValidator(r"\A[a-zA-Z0-9_-]{1,40}\Z", "this is not a plan code")])
    token = Text(
        validators=[RegexValidator(r"\A[!-~]{1,128}\Z", "write 1 to 128 visible ASCII characters")],
        help_text="The processor's token for the card. A card number is refused.",
    )


class ChargeShown(serializers.Serializer[Charge]):
    """One period of one subscription, owed once."""

    id = serializers.UUIDField()
    creator_id = serializers.UUIDField()
    subscription_id = serializers.UUIDField()
    plan = serializers.CharField(source="terms.plan_id")
    amount = Money()
    currency = serializers.CharField(help_text="Always USD.")
    period_start = serializers.DateField()
    period_end = serializers.DateField(help_text="The first day after the period.")
    state = serializers.ChoiceField(choices=ChargeState.choices)
    created_at = serializers.DateTimeField()


class CheckoutShown(serializers.Serializer[Any]):
    """A checkout: the subscription, and how far its first charge is."""

    id = serializers.UUIDField(help_text="The subscription's id.")
    creator_id = serializers.UUIDField()
    plan = serializers.CharField()
    state = serializers.ChoiceField(
        choices=["open", "processing", "succeeded", "declined", "in_doubt", "expired"]
    )
    decline_class = serializers.ChoiceField(
        choices=[kind.value for kind in DeclineClass], allow_null=True
    )
    try_other_card = serializers.BooleanField(allow_null=True)
    charge = ChargeShown()


class CheckoutQuery(serializers.Serializer[Any]):
    """How long to wait for the next state."""

    wait = WholeNumber(
        min_value=0,
        max_value=LONGEST_WAIT,
        required=False,
        help_text="Seconds to wait for another state than the present one; 0 does not wait.",
    )


class ChargeQuery(serializers.Serializer[Any]):
    """Which charges, newest first."""

    creator_id = Uuid(required=False)
    subscription_id = Uuid(required=False)
    state = serializers.ChoiceField(choices=ChargeState.choices, required=False)
    since = Instant(required=False, help_text="Created at or after this time (RFC 3339).")
    until = Instant(required=False, help_text="Created before this time (RFC 3339).")
    limit = WholeNumber(min_value=1, max_value=200, required=False, help_text="50 if left out.")
    cursor = Text(max_length=400, required=False, help_text="`next_cursor` of the page before.")


class ChargePage(serializers.Serializer[Any]):
    """One page; `next_cursor` is null on the last."""

    charges = ChargeShown(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class WebhookTaken(serializers.Serializer[Any]):
    """The webhook is stored; it is confirmed with the processor before anything changes (R28)."""

    event_id = serializers.CharField()
    duplicate = serializers.BooleanField()
