"""POST /v1/webhooks/{processor}: stored and answered; confirmed with the processor later (R28)."""

import hashlib
from datetime import datetime

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.views import APIView

from checkout import wiring
from checkout.api.documents import WebhookTaken
from checkout.failpoints import failpoint
from checkout.gateways import BadSignature, Gateway, WebhookHint
from checkout.http import Problem, answered, as_json, in_one_commit, refuse_chunks
from checkout.http.openapi import ANYWHERE, answers
from checkout.models import WebhookDelivery


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
