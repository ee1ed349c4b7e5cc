"""Relay committed messages through one door, until SIGTERM."""

import signal
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from checkout import wiring
from checkout.models import Door
from checkout.relay import KafkaSender, MarkFailed, Relay, Sender, SqsSender


class Command(BaseCommand):
    """Run two of each: one leads, the other stands by."""

    help = "Send committed messages to the SQS queue or to the Kafka topic, until SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = "example:\n  manage.py relay kafka"
        parser.add_argument("door", choices=[str(door) for door in Door])

    def handle(self, *, door: str, **_options: Any) -> None:
        relay = Relay(
            door=Door(door),
            sender=sender(Door(door)),
            connect=partial(wiring.direct_connection, name=f"relay-{door}"),
            clock=wiring.clock(),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: relay.stop.set())
        try:
            relay.run()
        except MarkFailed as error:
            raise CommandError(f"{error}; ending, so that a new process starts clean") from error


def sender(door: Door) -> Sender:
    """The broker behind a door."""
    match door:
        case Door.SQS:
            return SqsSender(wiring.queue())
        case Door.KAFKA:
            return KafkaSender(wiring.producer())
