"""The REST API: each view translates, makes one call inward, and translates back."""

import hashlib
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID
from zoneinfo import available_timezones

from django.conf import settings
from django.core import signing
from django.core.validators import EmailValidator, RegexValidator
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.views import APIView

from checkout import routing, subscriptions, wiring
from checkout.failpoints import failpoint
from checkout.gateways import BadSignature, DeclineClass, Gateway, WebhookHint
from checkout.http import (
    Instant,
    Money,
    Problem,
    Text,
    Uuid,
    WholeNumber,
    answered,
    as_json,
    caller,
    idempotency_key,
    idempotent,
    in_one_commit,
    reading,
    refuse_chunks,
    sent_json,
    validated,
    validated_query,
)
from checkout.http.openapi import ANYWHERE, IDEMPOTENCY, ON_POST, WITH_KEY, answers
from checkout.models import Charge, ChargeState, Creator, RoutingRule, WebhookDelivery

# --- What is sent and answered -------------------------------------------------------------------

TIME_ZONES: Final = frozenset(available_timezones())
LONGEST_WAIT: Final = 20
# Nothing follows by itself in these, so that nobody waits for it.
WAITED_FOR: Final = frozenset({"open", "processing", "in_doubt"})


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


# --- The addresses -------------------------------------------------------------------------------


class Creators(APIView):
    """Creators of the account."""

    @extend_schema(
        operation_id="create_creator",
        summary="Register a creator",
        parameters=[*IDEMPOTENCY],
        request=NewCreator,
        responses=answers({201: CreatorShown}, *ON_POST, "creator-exists", "country-not-served"),
        examples=[
            OpenApiExample(
                "a creator in Kazakhstan",
                value={
                    "external_id": "creator-0001",
                    "name": "Aigerim Bekova",
                    "email": "aigerim@example.com",
                    "country": "KZ",
                    "time_zone": "Asia/Almaty",
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> HttpResponse:
        key = idempotency_key(request)
        facts = validated(NewCreator, sent_json(request))
        account_id, now = caller(request).account_id, wiring.clock().now()

        def register() -> tuple[int, object]:
            creator = _register(account_id=account_id, now=now, **facts)
            return 201, CreatorShown(creator).data

        return idempotent(request=request, key=key, now=now, work=register)


def _register(*, account_id: UUID, external_id: str, country: str, **facts: Any) -> Creator:
    """`subscriptions.register_creator`, its refusals as problems.

    It finds a creator with the same facts again; a client is told so, whatever the facts.
    """
    known = Creator.derive_id(account_id=account_id, external_id=external_id)
    if Creator.objects.filter(pk=known).exists():
        raise _creator_exists(known)
    if not RoutingRule.objects.filter(country=country).exists():
        raise _field("country", "no routing rule knows this country")
    try:
        return subscriptions.register_creator(
            account_id=account_id, external_id=external_id, country=country, **facts
        )
    except subscriptions.CreatorExists:
        # Another request committed between the question above and the insert.
        raise _creator_exists(known) from None
    except routing.NoLane as error:
        raise _not_served(error.refusal) from None


def _creator_exists(creator_id: UUID) -> Problem:
    return Problem(
        "creator-exists",
        "Another request registered this external id; its creator is named by id.",
        members={"id": str(creator_id)},
    )


def _not_served(refusal: routing.Refusal) -> Problem:
    """The rule's own words and source, so that the platform can tell the creator why."""
    return Problem(
        "country-not-served",
        f"No processor may serve {refusal.country}: {refusal.reason}",
        members={
            "country": refusal.country,
            "reason": refusal.reason,
            "source": refusal.source,
        },
    )


def _field(name: str, message: str) -> Problem:
    return Problem("validation-failed", "See errors.", ((name, message),))


class Checkouts(APIView):
    """Checkouts of the account."""

    @extend_schema(
        operation_id="start_checkout",
        summary="Subscribe a creator and collect the first charge",
        parameters=[*IDEMPOTENCY],
        request=NewCheckout,
        responses=answers({201: CheckoutShown}, *ON_POST, "country-not-served"),
        examples=[
            OpenApiExample(
                "monthly",
                value={
                    "creator_id": "6f6b0b0e-7f0c-5d0a-9d0e-3f0f6f1b2c3d",
                    "plan": "monthly",
                    "token": "tok_approve_0001",
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> HttpResponse:
        key = idempotency_key(request)
        asked = validated(NewCheckout, sent_json(request))
        account_id, now = caller(request).account_id, wiring.clock().now()

        def start() -> tuple[int, object]:
            charge = _start(
                account_id=account_id,
                creator_id=asked["creator_id"],
                plan_code=asked["plan"],
                token=asked["token"],
                idempotency_key=key,
                now=now,
            )
            return 201, shown(charge)

        return idempotent(request=request, key=key, now=now, work=start)


def _start(**asked: Any) -> Charge:
    """`subscriptions.start_checkout`, its refusals as problems."""
    try:
        return subscriptions.start_checkout(**asked)
    except subscriptions.UnknownCreator:
        raise _field("creator_id", "this account has no such creator") from None
    except subscriptions.UnknownPlan:
        raise _field("plan", "there is no such plan") from None
    except subscriptions.DeadInstrument:
        raise _field("token", "this card was declined for good; use another") from None
    except routing.NoLane as error:
        raise _not_served(error.refusal) from None


def shown(charge: Charge) -> dict[str, object]:
    """A checkout as the API shows it; `charge` is the subscription's first."""
    return {
        "id": charge.subscription_id,
        "creator_id": charge.creator_id,
        "plan": charge.terms.plan_id,
        **subscriptions.checkout_state(charge),
        "charge": ChargeShown(charge).data,
    }


# A waiting request keeps its thread, and its thread keeps a connection without a transaction.
_waiting = threading.BoundedSemaphore(max(1, settings.WEB_THREADS // 4))
FIRST_LOOK: Final = 0.2
LONGEST_LOOK: Final = 1.0


class Checkout(APIView):
    """One checkout."""

    @extend_schema(
        operation_id="read_checkout",
        summary="Read a checkout, or wait for its next state",
        parameters=[CheckoutQuery],
        responses=answers({200: CheckoutShown}, *WITH_KEY, "not-found", "validation-failed"),
    )
    def get(self, request: Request, checkout_id: UUID) -> HttpResponse:
        wait = validated_query(CheckoutQuery, request).get("wait", 0)
        account_id = caller(request).account_id

        def look() -> dict[str, object]:
            return reading(request, lambda: shown(_first_charge(account_id, checkout_id)))

        document = look()
        if wait and document["state"] in WAITED_FOR and _waiting.acquire(blocking=False):
            try:
                document = _next_state(document, look, seconds=wait)
            finally:
                _waiting.release()
        return answered(as_json(document))


def _first_charge(account_id: UUID, subscription_id: UUID) -> Charge:
    charge = (
        Charge.objects.filter(subscription_id=subscription_id, creator__account_id=account_id)
        .select_related("terms")
        .order_by("period_start")
        .first()
    )
    if charge is None:
        raise NotFound
    return charge


def _next_state(
    document: dict[str, object], look: Callable[[], dict[str, object]], *, seconds: float
) -> dict[str, object]:
    """Look again, ever less often, until the state is another one or `seconds` have passed."""
    clock = wiring.clock()
    end, pause, present = clock.monotonic() + seconds, FIRST_LOOK, document["state"]
    while document["state"] == present and clock.monotonic() < end:
        clock.sleep(max(0.0, min(pause, end - clock.monotonic())))
        pause = min(pause * 1.5, LONGEST_LOOK)
        document = look()
    return document


class Charges(APIView):
    """Charges of the account."""

    @extend_schema(
        operation_id="list_charges",
        summary="List charges, newest first",
        parameters=[ChargeQuery],
        responses=answers({200: ChargePage}, *WITH_KEY, "validation-failed"),
    )
    def get(self, request: Request) -> HttpResponse:
        asked = validated_query(ChargeQuery, request)
        limit = asked.get("limit", 50)
        charges = _chosen(caller(request).account_id, asked)
        page = reading(request, lambda: list(charges[: limit + 1]))
        document = {
            "charges": [ChargeShown(charge).data for charge in page[:limit]],
            "next_cursor": _cursor_after(page[limit - 1]) if len(page) > limit else None,
        }
        return answered(as_json(document))


def _chosen(account_id: UUID, asked: Mapping[str, Any]) -> QuerySet[Charge]:
    charges = Charge.objects.filter(creator__account_id=account_id).select_related("terms")
    columns = {
        "creator_id": "creator_id",
        "subscription_id": "subscription_id",
        "state": "state",
        "since": "created_at__gte",
        "until": "created_at__lt",
    }
    charges = charges.filter(**{columns[k]: v for k, v in asked.items() if k in columns})
    if "cursor" in asked:
        created_at, last = _read_cursor(asked["cursor"])
        # The first condition alone would do for the index; the second ends ties by id.
        charges = charges.filter(created_at__lte=created_at).filter(
            Q(created_at__lt=created_at) | Q(id__lt=last)
        )
    return charges.order_by("-created_at", "-id")


def _signer() -> signing.Signer:
    """Nobody but us writes a cursor, so that what is in one need not be checked (R50)."""
    return signing.Signer(salt="checkout.charges.cursor")


def _cursor_after(charge: Charge) -> str:
    return _signer().sign_object([charge.created_at.isoformat(), str(charge.id)])


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        created_at, last = _signer().unsign_object(cursor)
    except signing.BadSignature:
        raise _field("cursor", "this is no cursor of ours; send next_cursor unchanged") from None
    return datetime.fromisoformat(created_at), UUID(last)


class Webhooks(APIView):
    """What processors tell us, without being asked."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="take_webhook",
        summary="Take a processor's webhook",
        description="Signed by the processor over the raw body; no API key.",
        request={"application/json": {"type": "object", "additionalProperties": True}},
        responses=answers(
            {202: WebhookTaken, 200: WebhookTaken},
            *ANYWHERE,
            *("bad-request", "bad-signature", "not-found", "length-required", "body-too-large"),
        ),
    )
    def post(self, request: Request, processor: str) -> HttpResponse:
        refuse_chunks(request)
        body, now = request.body, wiring.clock().now()
        try:
            hint = _gateway_of(processor).parse_webhook(body, request.headers, now=now.real)
        except BadSignature as error:
            raise Problem("bad-signature", "The signature does not fit.") from error
        event_id = _event_id(hint)
        added = in_one_commit(
            request, lambda: _keep(processor, event_id, hint, body=body, now=now.real)
        )
        failpoint("webhook.stored")
        document = {"event_id": event_id, "duplicate": not added}
        return answered(as_json(document), status=202 if added else 200)


def _gateway_of(processor: str) -> Gateway:
    """Any lane of the processor: they share the secret of its webhooks."""
    for gateway in wiring.gateways().values():
        if gateway.processor == processor:
            return gateway
    raise NotFound


def _event_id(hint: WebhookHint) -> str:
    """The processor's id of the event, or a hash of one that is too long to be stored."""
    event_id = _storable(hint.event_id)
    return event_id if len(event_id) <= 128 else hashlib.sha256(event_id.encode()).hexdigest()


def _keep(processor: str, event_id: str, hint: WebhookHint, *, body: bytes, now: datetime) -> bool:
    """Store the webhook to be applied later; False if its event was stored before (F24)."""
    _, added = WebhookDelivery.objects.get_or_create(
        processor=processor,
        event_id=event_id,
        defaults={
            "reference": hint.reference,
            "kind": _storable(hint.kind)[:60],
            "body": _storable(body.decode("utf-8", "backslashreplace")),
            "received_at": now,
            "next_try_at": now,
        },
    )
    return added


def _storable(text: str) -> str:
    """The text with its NULs and lone surrogates written out: PostgreSQL stores neither."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


# --- The document --------------------------------------------------------------------------------


@cache
def openapi_document() -> dict[str, Any]:
    """Every operation under /v1/ with all its answers (R50); made once a process."""
    generator: Any = SchemaGenerator  # its methods carry no types
    return dict(generator().get_schema(request=None, public=True))


class OpenApi(APIView):
    """The document itself, for anybody."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="read_openapi",
        summary="This document",
        responses=answers({200: OpenApiTypes.OBJECT}, "not-acceptable", "internal-error"),
    )
    def get(self, request: Request) -> HttpResponse:  # noqa: ARG002  DRF's signature
        return answered(as_json(openapi_document()))
