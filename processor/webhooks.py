"""Webhooks of the sandbox: signed, sent by one thread, repeated a few times, then forgotten.

The signature stands in the header `Sandbox-Signature: t=<unix seconds>,v1=<hex>`, where hex is
HMAC-SHA256 with the webhook secret over `<t>.<raw body>`; t is real time, anew for each try. An
event keeps its id over its tries. What was not delivered when the process ends is not sent again:
whoever listens must be able to ask.
"""

import hashlib
import hmac
import json
import logging
import queue
from typing import Any

import httpx

from processor.clock import Clock
from processor.journal import Line
from processor.sandbox import event_of

logger = logging.getLogger(__name__)

HEADER = "Sandbox-Signature"
BACKOFF_SECONDS = (0.0, 1.0, 5.0)
TIMEOUT_SECONDS = 5.0


def signature(body: bytes, *, secret: str, at: int) -> str:
    """The header's value for `body`, signed at `at` (unix seconds)."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Sender:
    """Sends the webhooks of the lines it is given to `url`, in order, from its own thread."""

    def __init__(self, *, url: str, secret: str, clock: Clock) -> None:
        self._url = url
        self._secret = secret
        self._clock = clock
        self._waiting: queue.SimpleQueue[Line] = queue.SimpleQueue()
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False)

    def announce(self, line: Line) -> None:
        """Send a webhook for `line` soon; returns at once."""
        self._waiting.put(line)

    def run(self) -> None:
        """Send for ever."""
        while True:
            self.send(event_of(self._waiting.get()))

    def send(self, event: dict[str, Any]) -> bool:
        """Try BACKOFF_SECONDS apart until a 2xx; whether there was one."""
        body = json.dumps(event, separators=(",", ":")).encode()
        for pause in BACKOFF_SECONDS:
            self._clock.sleep(pause)
            if self._post(body):
                return True
        logger.warning("webhook %s was not taken, giving it up", event["id"])
        return False

    def _post(self, body: bytes) -> bool:
        at = int(self._clock.real_now().timestamp())
        headers = {
            "Content-Type": "application/json",
            HEADER: signature(body, secret=self._secret, at=at),
        }
        try:
            return self._client.post(self._url, content=body, headers=headers).is_success
        except httpx.HTTPError as error:
            logger.info("webhook not delivered: %s", error)
            return False
