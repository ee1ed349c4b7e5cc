"""Create the declared Kafka topic, or verify it."""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from confluent_kafka import KafkaException
from django.core.management.base import BaseCommand, CommandError

from checkout import wiring
from checkout.topics import KafkaAway, TopicMismatch


class Command(BaseCommand):
    """Safe to run at every start of the broker: the second time it changes nothing."""

    help = "Create the topic of events, or correct what may be corrected; then verify it. Exits 1 if it differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = "example:\n  manage.py kafka_topics --check --json"
        parser.add_argument("--check", action="store_true", help="verify only, change nothing")
        parser.add_argument("--json", action="store_true", help="print what changed as JSON")

    def handle(self, *, check: bool, json: bool, **_options: Any) -> None:
        topic, topics = wiring.topic(), wiring.topics()
        try:
            changed = [] if check else topics.declare(topic)
            topics.verify(topic)
        except (TopicMismatch, KafkaAway, KafkaException) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(report(topic.name, changed, as_json=json))


def report(name: str, changed: list[str], *, as_json: bool) -> str:
    """The facts for a script, or as a sentence for a person."""
    if as_json:
        return json.dumps({"topic": name, "changed": changed})
    return "; ".join(changed) or f"{name} is as declared"
