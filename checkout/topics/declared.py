"""The topic as it must be, and the broker's as it is; nothing else creates one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

TOPIC: Final = "checkout.events.v1"
LARGEST_MESSAGE: Final = 1_048_576
ADMIN_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Topic:
    """A topic as it must be. Adding partitions moves keys and breaks order: choose once.

    Bounded in time and in bytes (per partition), so that no topic can fill the disk.
    """

    partitions: int
    replication: int
    name: str = TOPIC
    retention_seconds: int = 86_400
    retention_bytes: int = 1_073_741_824
    largest_message: int = LARGEST_MESSAGE

    def config(self) -> dict[str, str]:
        """The topic's own configuration, as Kafka spells it."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_seconds * 1000),
            "retention.bytes": str(self.retention_bytes),
            "max.message.bytes": str(self.largest_message),
            "min.insync.replicas": str(min(2, self.replication)),
            "unclean.leader.election.enable": "false",
        }


class TopicMismatch(Exception):
    """The topic on the broker is not the declared one; the text lists each difference."""


class KafkaAway(Exception):
    """The broker did not answer in time."""


@dataclass(frozen=True)
class Topics:
    """Declares and verifies topics on the broker at `servers` (host:port, comma separated)."""

    servers: str

    def declare(self, topic: Topic) -> list[str]:
        """Create the topic, or correct what may be corrected; then verify. Safe to run twice.

        Returns what was changed. Raises TopicMismatch for what cannot be corrected (partitions,
        replication), KafkaAway when the broker does not answer.
        """
        admin, changed = self._admin(), []
        if topic.name not in self._metadata(admin):
            new = NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=topic.replication,
                config=topic.config(),
            )
            self._wait(admin.create_topics([new], request_timeout=ADMIN_SECONDS))
            changed.append(f"created {topic.name}")
        differences = self._config_differences(admin, topic)
        if differences:
            self._set_config(admin, topic)
            changed += [f"corrected {difference}" for difference in differences]
        self.verify(topic)
        return changed

    def verify(self, topic: Topic) -> None:
        """Raise TopicMismatch unless the broker's topic is as declared, bounds included."""
        admin = self._admin()
        found = self._metadata(admin).get(topic.name)
        if found is None:
            raise TopicMismatch(f"{topic.name} does not exist; run `manage.py kafka_topics`")
        differences = self._config_differences(admin, topic)
        for name, declared, is_ in (
            ("partitions", topic.partitions, len(found)),
            ("replication", topic.replication, min(map(len, found.values()), default=0)),
        ):
            if declared != is_:
                differences.append(f"{name} is {is_}, declared {declared}")
        if differences:
            raise TopicMismatch(f"{topic.name}: {'; '.join(differences)}")

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def _metadata(self, admin: AdminClient) -> dict[str, dict[int, list[int]]]:
        """Topic → partition → replicas."""
        try:
            topics = admin.list_topics(timeout=ADMIN_SECONDS).topics
        except KafkaException as away:
            raise KafkaAway(f"Kafka at {self.servers} does not answer: {text_of(away)}") from None
        return {
            name: {number: part.replicas for number, part in topic.partitions.items()}
            for name, topic in topics.items()
            if topic.error is None
        }

    def _config_differences(self, admin: AdminClient, topic: Topic) -> list[str]:
        resource = ConfigResource(ResourceType.TOPIC, topic.name)
        [answer] = admin.describe_configs([resource], request_timeout=ADMIN_SECONDS).values()
        found = {name: entry.value for name, entry in self._result(answer).items()}
        # Some brokers do not list every configuration; what they do not know they cannot break.
        return [
            f"{name} is {found[name]}, declared {declared}"
            for name, declared in topic.config().items()
            if found.get(name, declared) != declared
        ]

    def _set_config(self, admin: AdminClient, topic: Topic) -> None:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in topic.config().items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries)
        self._wait(admin.incremental_alter_configs([resource], request_timeout=ADMIN_SECONDS))

    def _wait(self, futures: Mapping[Any, Any]) -> None:
        for future in futures.values():
            self._result(future)

    def _result(self, future: Any) -> Any:
        try:
            return future.result(timeout=ADMIN_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return None
            if error.args[0].retriable() or error.args[0].code() == KafkaError._TIMED_OUT:
                raise KafkaAway(f"Kafka at {self.servers}: {text_of(error)}") from None
            raise


def text_of(error: BaseException) -> str:
    """What Kafka says of an error, in its own words."""
    return str(error.args[0] if error.args else error)
