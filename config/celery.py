"""The Celery application of the worker: receives from SQS FIFO, and nothing else of Celery's.

`python -m celery -A config worker --concurrency 8 --without-gossip --without-mingle --without-heartbeat`.
No retry, ETA, result or remote control: each would send a message past its creator's group (MEASURED).
"""

import logging
import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings

# Registers the transport that `broker_transport` names: the celery script does not find it otherwise.
from checkout import queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# The checks belong to `make check`; here they would import the whole web into each child.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

app = Celery("checkout")
app.conf.update(
    broker_url=queue.broker_url(
        endpoint_url=settings.SQS_ENDPOINT_URL,
        access_key=settings.AWS_ACCESS_KEY_ID,
        secret=settings.AWS_SECRET_ACCESS_KEY,
    ),
    broker_transport="checkout.queue:Transport",
    broker_transport_options={
        "region": settings.AWS_REGION,
        "is_secure": not settings.SQS_ENDPOINT_URL.startswith("http://"),
        "wait_time_seconds": settings.SQS_WAIT_SECONDS,
        # 0 gives 1.5 tasks a second, kombu's own default about one (MEASURED).
        "polling_interval": 0.02,
        "predefined_queues": {
            settings.SQS_QUEUE: queue.queue_options(backoff=settings.AGES.backoff)
        },
        "fetch_message_attributes": {"MessageSystemAttributeNames": list(queue.ATTRIBUTES)},
        "client-config": queue.CLIENT_CONFIG,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_default_queue=settings.SQS_QUEUE,
    imports=["checkout.tasks"],
    # A message is acknowledged after its outcome is committed; what fails or dies is left (DESIGN 4.11).
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_acks_on_failure_or_timeout=False,
    task_ignore_result=True,
    result_backend=None,
    task_soft_time_limit=settings.AGES.soft_limit,
    task_time_limit=settings.AGES.hard_limit,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    # A lost connection to SQS is no reason to end a receive whose money may be on its way.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # Children keep their database connection from receive to receive.
    CELERY_DB_REUSE_MAX=10_000,
)
# By name: it needs the models, which are there only once the worker has set Django up.
app.steps["worker"].add("checkout.tasks:Pulse")


@setup_logging.connect
def keep_our_logging(**_: Any) -> None:
    """Leave logging as settings.LOGGING has it; the task says its outcome itself, once, with ids."""
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
