"""The life of each server, as a script: `python devstack_life.py postgres|sqs|kafka HOME`.

Start, write, stop, start, look, kill, start, look; prints one word for each thing that held.
"""

import sys
from pathlib import Path

import boto3
import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from devstack.kafka import Kafka
from devstack.ports import free_port, who_holds
from devstack.postgres import Postgres
from devstack.sqs import Sqs


def postgres(home: Path) -> None:
    """A committed row outlives a clean stop and a kill of all processes."""
    server = Postgres(home / "postgres", free_port(), password="a pass'word")
    server.start()
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 41 AS value")
    server.stop()
    print("stopped" if not who_holds(server.port) else "still listens")
    server.start()
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("UPDATE kept SET value = value + 1")
    server.kill()
    server.start()
    with psycopg.connect(server.dsn()) as connection:
        print(*connection.execute("SELECT value FROM kept").fetchone() or ())
        print(*connection.execute("SHOW server_version_num").fetchone() or ())
    wrong = server.dsn().replace("pass", "guess")
    try:
        psycopg.connect(wrong).close()
    except psycopg.OperationalError:
        print("refused")
    server.stop()
    print(*sorted(path.name for path in (home / "postgres").glob(".s.*")), "no socket in the data")


def sqs(home: Path) -> None:
    """A waiting message outlives a clean stop; after a kill the server starts again."""
    server = Sqs(home / "sqs", free_port())
    server.start()
    name, attributes = "life.fifo", {"FifoQueue": "true"}
    client = sqs_client(server)
    url = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    client.send_message(
        QueueUrl=url, MessageBody="kept", MessageGroupId="g", MessageDeduplicationId="1"
    )
    server.stop()
    print("stopped" if not who_holds(server.port) else "still listens")
    server.start()
    received = sqs_client(server).receive_message(QueueUrl=url)["Messages"]
    print(*[message["Body"] for message in received])
    server.kill()
    server.start()
    print("answers" if server.answers() else "silent")
    server.stop()


def sqs_client(server: Sqs):
    """A client of the local server."""
    return boto3.client(
        "sqs",
        endpoint_url=server.address,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )


def kafka(home: Path) -> None:
    """A topic outlives a clean stop; an undeclared one is refused after each start, also after a kill."""
    server = Kafka(home / "kafka", free_port())
    server.start()
    admin = AdminClient({"bootstrap.servers": server.address})
    [made] = admin.create_topics([NewTopic("declared", 2)]).values()
    made.result(10)
    print(undeclared(server))
    server.stop()
    print("stopped" if not who_holds(server.port) else "still listens")
    server.start()
    print("kept" if "declared" in topics(server) else "lost")
    server.kill()
    server.start()
    print(undeclared(server), "after a kill")
    server.stop()


def undeclared(server: Kafka) -> str:
    """What becomes of a record for a topic that nobody declared."""
    failures = []
    producer = Producer(
        {
            "bootstrap.servers": server.address,
            "message.timeout.ms": 1000,
            "log.connection.close": False,
        }
    )
    producer.produce("misspelt", b"x", on_delivery=lambda error, _: failures.append(error))
    producer.flush(5)
    return "refused" if failures[0] is not None and "misspelt" not in topics(server) else "created"


def topics(server: Kafka) -> set[str]:
    """The topics there are."""
    admin = AdminClient({"bootstrap.servers": server.address})
    return set(admin.list_topics(timeout=5).topics)


if __name__ == "__main__":
    {"postgres": postgres, "sqs": sqs, "kafka": kafka}[sys.argv[1]](Path(sys.argv[2]))
