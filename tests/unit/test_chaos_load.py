"""The load of the chaos runs against a server that misbehaves: what is repeated, what is kept."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from chaos.diary import CHECKOUTS, Diary, Promises
from chaos.figures import FAILED, FOUND, Operation, Tally, percentile
from chaos.load import Habits, Load
from tests.waiting import wait_for

DROP: Final = "dropped after it was done"
HANG: Final = "never answered"
Answered = tuple[int, dict[str, Any], dict[str, str]]


@dataclass
class Shop:
    """A checkout service in memory that misbehaves on purpose.

    `mishaps`, by the number of a key's request from 1: a status with Retry-After (before anything is
    done), DROP (done, the connection then closed) or HANG (done, answered too late).
    """

    mishaps: dict[int, Any] = field(default_factory=dict)
    seen: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuses: Callable[[str, dict[str, Any]], Answered | None] = lambda _path, _body: None
    shows: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document
    lost: frozenset[str] = frozenset()
    hang_seconds: float = 0.6
    retry_after: str = "0"
    lock: Any = field(default_factory=threading.Lock)

    def post(self, path: str, key: str, body: dict[str, Any]) -> Answered | None:
        with self.lock:
            self.seen[key].append(time.monotonic())
            mishap = self.mishaps.get(len(self.seen[key]))
            if isinstance(mishap, int):
                return mishap, {"type": "/problems/x"}, {"Retry-After": self.retry_after}
            if refused := self.refuses(path, body):
                return refused
            document = self.done.setdefault(key, self._made(path, key))
        if mishap == DROP:
            return None
        if mishap == HANG:
            time.sleep(self.hang_seconds)
            return None
        return 201, self.shows(document), {}

    def _made(self, path: str, key: str) -> dict[str, Any]:
        if path != CHECKOUTS:
            return {"id": f"creator of {key}"}
        charge = {"id": f"charge of {key}", "amount": "19.99", "currency": "USD"}
        return {"id": key, "state": "open", "charge": charge}

    def get(self, path: str) -> Answered:
        if path.startswith("/v1/charges"):
            return 200, {"charges": [d["charge"] for d in self.done.values() if "charge" in d]}, {}
        key = path.rpartition("/")[2]
        if key in self.lost or key not in self.done:
            return 404, {"type": "/problems/not-found"}, {}
        return 200, self.done[key] | {"state": "succeeded"}, {}


@contextmanager
def open_shop(shop: Shop) -> Iterator[str]:
    """The shop's address until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(shop.post(self.path, self.headers["Idempotency-Key"], body))

        def do_GET(self) -> None:
            self._answer(shop.get(self.path))

        def _answer(self, answered: Answered | None) -> None:
            self.close_connection = True
            if answered is None:
                return
            status, document, headers = answered
            body = json.dumps(document).encode()
            self.send_response(status)
            # Said, so that no client sends its next request into a closing connection.
            said = {"Content-Length": str(len(body)), "Connection": "close", **headers}
            for name, value in said.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


PLAIN: Final = Habits(
    rate=50,
    seed=1,
    most=1,
    patience=8,
    timeout=0.4,
    first_pause=0.01,
    longest_pause=0.05,
    look_pause=0.02,
    presses_twice=0,
    lists_charges=0,
    refused_country=0,
    plans={"monthly": Decimal("19.99")},
    tokens={"approve": 1},
)


def visited(shop: Shop, folder: Path, habits: Habits = PLAIN) -> tuple[Load, Promises]:
    """So many visits as the habits allow, ended."""
    path = folder / "diary"
    with open_shop(shop) as url:
        load = Load(url, "key", habits, Diary(path))
        load.start()
        wait_for(lambda: len(load.tally.arrivals) >= habits.most, 20, "the visitors")
        load.stop(seconds=30)
    return load, Promises.read(path)


@pytest.mark.parametrize("mishap", [503, 500, DROP, HANG])
def test_what_was_not_answered_is_repeated_with_the_same_key(
    tmp_path: Path, mishap: object
) -> None:
    """F1 to F3: whatever happened to the first two requests, one thing exists and is acknowledged once."""
    shop = Shop(mishaps={1: mishap, 2: mishap})

    # Only a hang is to be waited out; a slow machine is none.
    load, promises = visited(
        shop, tmp_path, replace(PLAIN, timeout=1.0 if mishap == HANG else 15.0)
    )

    assert {key: len(times) for key, times in shop.seen.items()} == {
        "visit-1-000001-creator": 3,
        "visit-1-000001-order": 3,
    }
    assert [each.asked.key for each in promises.acknowledged] == list(promises.asked)
    assert [op.tries for op in load.tally.operations if op.is_write] == [3, 3]
    assert load.tally.failed() == []
    assert len(load.tally.findings) == (4 if mishap == 500 else 0)


def test_retry_after_is_obeyed_with_jitter(tmp_path: Path) -> None:
    shop = Shop(mishaps={1: 503}, retry_after="1")

    visited(shop, tmp_path)

    for first, second in shop.seen.values():
        assert 1.0 <= second - first < 2.5


def test_a_key_in_use_is_repeated_after_its_time(tmp_path: Path) -> None:
    """R49: the first request with the key still runs; that is no finding."""
    in_use: Answered = (
        409,
        {"type": "/problems/idempotency-key-in-use"},
        {"Retry-After": "1"},
    )
    shop = Shop()
    shop.refuses = lambda _path, _body: (
        in_use if len(shop.seen["visit-1-000001-order"]) == 1 else None
    )

    load, _ = visited(shop, tmp_path)

    assert len(shop.seen["visit-1-000001-order"]) == 2
    assert load.tally.findings == []


def test_patience_ends_and_is_counted_as_finally_failed(tmp_path: Path) -> None:
    shop = Shop(mishaps=dict.fromkeys(range(1, 1000), 503), retry_after="1")

    load, promises = visited(shop, tmp_path, replace(PLAIN, patience=1.5))

    assert [failed.what for failed in load.tally.failed()] == ["POST /v1/creators"]
    assert list(promises.asked) == ["visit-1-000001-creator"], "what may yet exist is known"
    assert promises.acknowledged == ()


def test_a_refusal_nobody_expected_is_kept_with_its_body(tmp_path: Path) -> None:
    refused: Answered = (422, {"type": "/problems/validation-failed", "detail": "why"}, {})
    shop = Shop(refuses=lambda path, _body: refused if path == CHECKOUTS else None)

    load, _ = visited(shop, tmp_path)

    [found] = load.tally.findings
    assert (found.status, "why" in found.said) == (422, True)
    assert len(shop.seen["visit-1-000001-order"]) == 1


def test_a_country_that_is_refused_by_rule_is_no_finding(tmp_path: Path) -> None:
    refused: Answered = (409, {"type": "/problems/country-not-served"}, {})
    shop = Shop(refuses=lambda _path, body: refused if body.get("country") == "CU" else None)

    load, promises = visited(shop, tmp_path, replace(PLAIN, refused_country=1))

    assert load.tally.findings == []
    assert promises.acknowledged == ()


def test_a_country_that_should_be_refused_and_is_served_is_a_finding(tmp_path: Path) -> None:
    load, promises = visited(Shop(), tmp_path, replace(PLAIN, refused_country=1))

    [found] = load.tally.findings
    assert (found.status, "country-not-served was due" in found.what) == (201, True)
    assert [operation.outcome for operation in load.tally.operations] == [FOUND]
    assert promises.acknowledged == ()


def test_an_acknowledged_checkout_that_is_gone_is_a_finding(tmp_path: Path) -> None:
    """I1: the check that an acknowledged write is there can fail."""
    load, _ = visited(Shop(lost=frozenset({"visit-1-000001-order"})), tmp_path)

    assert [found.status for found in load.tally.findings] == [404]


def test_another_answer_to_the_same_key_is_a_finding(tmp_path: Path) -> None:
    """R49: byte for byte."""
    times: list[int] = []

    def otherwise(document: dict[str, Any]) -> dict[str, Any]:
        times.append(1)
        return document | {"time": len(times)}

    load, _ = visited(Shop(shows=otherwise), tmp_path, replace(PLAIN, presses_twice=1))

    assert [found.what for found in load.tally.findings] == ["another answer to the same key"]


def test_another_amount_and_a_missing_charge_are_findings(tmp_path: Path) -> None:
    def short(document: dict[str, Any]) -> dict[str, Any]:
        charge = {"id": "another", "amount": "19.96", "currency": "USD"}
        return document | ({"charge": charge} if "charge" in document else {})

    load, _ = visited(Shop(shows=short), tmp_path, replace(PLAIN, lists_charges=1))

    assert [found.what for found in load.tally.findings] == [
        "another amount than 19.99 USD",
        "an acknowledged charge is not listed",
    ]


def test_visitors_arrive_whether_or_not_anybody_answers(tmp_path: Path) -> None:
    """Open loop: twenty come within a second to a shop that answers none of them."""
    shop = Shop(mishaps=dict.fromkeys(range(1, 1000), HANG), hang_seconds=0.5)
    habits = replace(PLAIN, rate=40, most=20, patience=1)

    load, promises = visited(shop, tmp_path, habits)

    came = load.tally.arrivals
    assert came[-1] - came[0] < 2
    assert len(promises.asked) == 20
    assert len(load.tally.failed()) == 20


def test_an_arrival_beyond_the_bound_is_shed_and_counted(tmp_path: Path) -> None:
    shop = Shop(mishaps=dict.fromkeys(range(1, 1000), HANG), hang_seconds=0.5)

    load, promises = visited(shop, tmp_path, replace(PLAIN, most=10, at_once=3, patience=0.5))

    assert len(promises.asked) + len(load.tally.shed) == 10
    assert load.tally.shed


def test_a_load_that_does_not_end_in_time_says_so(tmp_path: Path) -> None:
    shop = Shop(mishaps=dict.fromkeys(range(1, 1000), 503), retry_after="1")
    with open_shop(shop) as url:
        load = Load(url, "key", replace(PLAIN, patience=60), Diary(tmp_path / "diary"))
        load.start()
        wait_for(lambda: shop.seen, 10, "the first request")
        load.stop(seconds=0.2)

    assert load.cut_short


# --- Figures ---------------------------------------------------------------------------------------


def test_the_longest_silence_begins_with_the_last_write_before_it() -> None:
    tally = Tally(begun=0.0, writes=[1.0, 2.0, 9.0, 10.0, 30.0])

    assert tally.longest_silence(since=3.0, until=11.0) == 7.0
    assert tally.longest_silence(since=9.5, until=12.0) == 2.0
    assert tally.longest_silence(since=0.0, until=40.0) == 20.0
    assert Tally(begun=0.0).longest_silence(since=5.0, until=8.0) == 3.0


def test_a_window_counts_what_began_in_it() -> None:
    operations = [
        Operation(at, at + took, "POST", tries, outcome, is_write=True)
        for at, took, tries, outcome in (
            (1.0, 0.1, 1, "done"),
            (2.0, 0.3, 3, "done"),
            (2.5, 9.0, 5, FAILED),
            (7.0, 0.1, 1, "done"),
        )
    ]
    answers = [(1.0, "201"), (2.0, "503"), (2.2, "201"), (7.0, "201")]
    tally = Tally(0.0, None, [1.0, 2.0, 7.0], [2.0], answers, operations, [1.1, 2.3, 7.1])

    window = tally.window("kill", since=2.0, until=5.0)

    assert (window.arrivals, window.shed, window.requests, window.repeated) == (1, 1, 2, 6)
    assert (window.acknowledged, window.failed) == (1, 1)
    assert window.answers == {"503": 1, "201": 1}
    assert (window.p50, window.p99) == (0.3, 9.0)
    assert window.gap == 2.7
    assert tally.buckets(seconds=2) == [1, 1, 0, 1]


def test_percentiles_are_by_nearest_rank() -> None:
    hundred = [float(n) for n in range(1, 101)]

    assert [percentile(hundred, part) for part in (0.5, 0.95, 0.99)] == [50.0, 95.0, 99.0]
    assert percentile([], 0.5) == 0.0
    assert percentile([3.0], 0.99) == 3.0
