"""The Kafka adapter: the declared topic and its event types, producing, and reading back.

Nothing creates a topic but `declare`; everything that is sent is a CloudEvent in binary mode, keyed by
creator, whose data has passed the closed schema of its type in checkout/events/ (R46).
"""

from checkout.topics.declared import LARGEST_MESSAGE, TOPIC, KafkaAway, Topic, TopicMismatch, Topics
from checkout.topics.producing import (
    MESSAGE_TIMEOUT_SECONDS,
    EventProducer,
    headers_of,
    producer_config,
)
from checkout.topics.reading import Record, TopicReader
from checkout.topics.schemas import (
    EVENT_TYPES,
    SCHEMAS,
    InvalidEvent,
    schema,
    validate,
    validate_payload,
)

__all__ = [
    "EVENT_TYPES",
    "LARGEST_MESSAGE",
    "MESSAGE_TIMEOUT_SECONDS",
    "SCHEMAS",
    "TOPIC",
    "EventProducer",
    "InvalidEvent",
    "KafkaAway",
    "Record",
    "Topic",
    "TopicMismatch",
    "TopicReader",
    "Topics",
    "headers_of",
    "producer_config",
    "schema",
    "validate",
    "validate_payload",
]
