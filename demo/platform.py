"""The platform that uses the service: it starts checkouts by HTTP, as its frontend would."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import httpx

from checkout.clock import Clock

AT_ONCE: Final = 12
GIVE_UP_SECONDS: Final = 60.0
LATER: Final = frozenset({429, 503})


class Refused(Exception):
    """The API answered with something else than a checkout; the text is its problem document."""


@dataclass(frozen=True)
class Order:
    """One checkout to start."""

    external_id: str
    creator_id: UUID
    plan: str
    token: str


@dataclass(frozen=True)
class Platform:
    """A client with an API key that repeats a request until it is answered, with the same key."""

    client: httpx.Client
    clock: Clock

    def start_checkouts(self, orders: Sequence[Order], *, tell: Callable[[str], None]) -> int:
        """Start them a dozen at a time; raises Refused. Returns how many there are now."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for done, _ in enumerate(pool.map(self.start_checkout, orders), 1):
                tell(f"{done} of {len(orders)} answered 201")
        return len(orders)

    def start_checkout(self, order: Order) -> None:
        answer = self.post(
            "/v1/checkouts",
            {"creator_id": str(order.creator_id), "plan": order.plan, "token": order.token},
            idempotency_key=f"demonstration-{order.external_id}",
        )
        if answer.status_code != httpx.codes.CREATED:
            raise Refused(f"{order.external_id}: {answer.status_code} {answer.text}")

    def post(self, path: str, body: dict[str, str], *, idempotency_key: str) -> httpx.Response:
        """POST until the answer is no "later": 429 and 503 say when, a lost connection does not."""
        end = self.clock.monotonic() + GIVE_UP_SECONDS
        while True:
            answer = self._post(path, body, idempotency_key)
            late = self.clock.monotonic() > end
            if answer is not None and (late or answer.status_code not in LATER):
                return answer
            if late:
                raise Refused(f"nobody answered at {path} for {GIVE_UP_SECONDS:g} s")
            self.clock.sleep(float(answer.headers.get("Retry-After", "1")) if answer else 1.0)

    def _post(self, path: str, body: dict[str, str], key: str) -> httpx.Response | None:
        try:
            return self.client.post(path, json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            return None
