"""A charge's whole way, its refusals and its breakdowns, with canaries for a token and an address."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from checkout import rescue, subscriptions
from checkout.gateways import DeclineClass, Declined, InDoubt
from checkout.models import Instrument
from config.logs import JsonFormatter
from tests.factories import World, account, routing_rule

pytestmark = pytest.mark.django_db

TOKEN = "tok_approve_canary_4242"
EMAIL = "aigerim.canary@example.org"
NAME = "Aigerim Canary"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that any logger says, as it would be written."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield written
    root.removeHandler(handler)
    root.setLevel(level)


def test_tokens_names_and_addresses_are_never_logged(
    log: io.StringIO, admin_client: Client
) -> None:
    world = World()
    routing_rule()
    with transaction.atomic():
        who = subscriptions.register_creator(
            account_id=account(clock=world.clock).pk,
            external_id="c-1",
            name=NAME,
            email=EMAIL,
            country="KZ",
            time_zone="UTC",
            now=world.clock.now(),
        )
    world.gateway.answers = [
        Declined(DeclineClass.ISSUER_SOFT, "do_not_honor"),
        InDoubt(f"garbled answer about {TOKEN} of {EMAIL}"),
    ]
    charge = world.due_charge(of=who, token=TOKEN)
    world.receive(charge)
    world.clock.forward(seconds=400)
    world.receive(charge, count=2)
    rescue.keep_unreadable(
        subject="m-1", body=f'{{"token": "{TOKEN}"', reason="no JSON", now=world.clock.now()
    )
    with pytest.raises(IntegrityError), transaction.atomic():
        Instrument.objects.create(
            id=charge.pk, creator=who, token=TOKEN, created_at=world.clock.real_now()
        )
    try:
        raise ValueError(f"Failing row contains ({TOKEN}, {EMAIL})")
    except ValueError:
        logging.getLogger("checkout").exception("a breakdown")
    admin_client.get(f"/admin/checkout/creator/?q={EMAIL}")
    admin_client.get(f"/admin/checkout/creator/{who.pk}/change/")

    lines = log.getvalue().splitlines()
    assert any(json.loads(line)["message"] == "a breakdown" for line in lines)
    for line in lines:
        for canary in (TOKEN, EMAIL, NAME):
            assert canary not in line, line
