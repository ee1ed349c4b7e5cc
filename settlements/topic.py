"""What the Kafka topic holds, read back: identity and hash of every record (R45).

The mirror in `TopicRecord` is what the events comparison reads, so that it is one SQL statement and
an incremental pass reads only what is new. The reader is passed in; this module knows no Kafka.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, Protocol
from uuid import UUID, uuid5

from django.db import connection, transaction
from django.db.models import Max

from checkout.clock import Moment
from checkout.failpoints import failpoint
from settlements.models import TopicProgress

RECORDS_AT_ONCE: Final = 5000
# A record whose headers are not ours gets an id that no event of ours can have.
FOREIGN: Final = UUID("5e0a2d3c-8f3b-5f57-9d0c-0f6d1f6f2c11")


class Record(Protocol):
    """One record of the topic; what is None was missing in it."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> str: ...
    @property
    def event_id(self) -> UUID | None: ...
    @property
    def sequence(self) -> int | None: ...
    @property
    def sha256(self) -> str: ...


class Topic(Protocol):
    """The topic, as checkout.topics.TopicReader reads it."""

    def read_back(self, *, offsets: Mapping[int, int]) -> Iterable[Record]:
        """Every record from these next offsets (absent: the oldest) to the present end."""
        ...


@dataclass(frozen=True)
class _Place:
    """How far a partition is read: from `first` up to, not including, `next`."""

    first: int
    next: int


def read_topic(*, topic: Topic, now: Moment, anew: bool = False) -> int:
    """Read the topic on from the last reading, or whole and `anew`; returns how many records.

    No transaction is open while Kafka is waited for. Two readers at once take turns to store, for
    Kafka hands each of them the partitions in another order, and store a record once. A partition that
    begins again below what was read was lost and made again: what was known of it is forgotten, and
    its creators are looked at anew. Raises what the reader raises.
    """
    known = {row.partition: _Place(row.first_offset, row.next_offset) for row in _progress()}
    offsets = {} if anew else {partition: place.next for partition, place in known.items()}
    read: dict[int, _Place] = {}
    count = 0
    for batch in _batches(topic.read_back(offsets=offsets)):
        with transaction.atomic():
            _take_turn()
            for record in batch:
                before = read.get(record.partition)
                if before is None and record.offset < offsets.get(record.partition, 0):
                    _forget(record.partition, read_before=now.real)
                    known.pop(record.partition)
                first = before.first if before else record.offset
                read[record.partition] = _Place(first, record.offset + 1)
            _store(batch, now=now, mark=not anew)
            count += len(batch)
        failpoint("topic.records_stored")
    with transaction.atomic():
        _take_turn()
        if anew:
            known = {}
            for partition in read:
                _forget(partition, read_before=now.real)
        _keep_progress(read, known=known, now=now)
        TopicProgress.objects.update(read_at=now.real)
    return count


def topic_read_at() -> datetime | None:
    """When the last complete reading began (real clock); None if the topic was never read."""
    newest: datetime | None = TopicProgress.objects.aggregate(newest=Max("read_at"))["newest"]
    return newest


def _take_turn() -> None:
    """Wait until no other reader stores; held to the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('settlements:topic', 0))")


def _progress() -> Iterable[TopicProgress]:
    return TopicProgress.objects.all()


def _keep_progress(read: Mapping[int, _Place], *, known: Mapping[int, _Place], now: Moment) -> None:
    TopicProgress.objects.bulk_create(
        [
            TopicProgress(
                partition=partition,
                first_offset=known.get(partition, place).first,
                next_offset=place.next,
                read_at=now.real,
            )
            for partition, place in read.items()
        ],
        update_conflicts=True,
        unique_fields=["partition"],
        update_fields=["first_offset", "next_offset", "read_at"],
    )


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    rest = iter(records)
    while batch := list(islice(rest, RECORDS_AT_ONCE)):
        yield batch


def _store(batch: list[Record], *, now: Moment, mark: bool) -> None:
    # A batch may not hold one place twice, and a reader may repeat itself.
    rows = list({(record.partition, record.offset): _columns(record) for record in batch}.values())
    columns = [list(column) for column in zip(*rows, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(_STORE, [now.real, *columns, mark])


def _columns(record: Record) -> tuple[int, int, UUID, UUID, int, str]:
    place = f"{record.partition}:{record.offset}"
    return (
        record.partition,
        record.offset,
        record.event_id or uuid5(FOREIGN, place),
        _key(record.key) or uuid5(FOREIGN, f"key:{record.key}"),
        record.sequence or 0,
        record.sha256,
    )


def _key(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _forget(partition: int, *, read_before: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH gone AS (DELETE FROM settlements_topicrecord"
            " WHERE partition = %s AND read_at < %s RETURNING key)"
            " INSERT INTO reconcile_dirty (kind, subject, detail)"
            " SELECT DISTINCT 'creator', key, settlements_only('events') FROM gone",
            [partition, read_before],
        )


_STORE: Final = """
    WITH stored AS (
      INSERT INTO settlements_topicrecord
        (partition, "offset", event_id, key, sequence, sha256, read_at)
      SELECT r.*, %s::timestamptz
      FROM unnest(%s::integer[], %s::bigint[], %s::uuid[], %s::uuid[], %s::bigint[], %s::text[]) r
      ON CONFLICT (partition, "offset") DO UPDATE SET
        event_id = EXCLUDED.event_id, key = EXCLUDED.key, sequence = EXCLUDED.sequence,
        sha256 = EXCLUDED.sha256, read_at = EXCLUDED.read_at
      RETURNING key, event_id
    )
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT DISTINCT 'creator', named.key, settlements_only('events')
    -- A record under another key than its message's is about both.
    FROM stored s CROSS JOIN LATERAL (
      SELECT s.key UNION SELECT o.key FROM checkout_outboxmessage o WHERE o.event_id = s.event_id
    ) named WHERE %s
"""
