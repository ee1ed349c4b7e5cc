"""How the whole suite is divided among workers, and that they stay out of each other's way."""

from pathlib import Path

import pytest

from devstack.ports import FIRST, LAST, free_port
from tests import workers

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_begun_first_exists_and_is_named_once() -> None:
    assert [file for file in workers.FIRST if not (ROOT / file).is_file()] == []
    assert len(set(workers.FIRST)) == len(workers.FIRST)


def test_what_is_named_comes_in_its_order_and_the_rest_behind() -> None:
    first, second = workers.FIRST[:2]

    ranks = [workers.rank(f"{file}::test_it[a::b]") for file in (first, second, "tests/else.py")]

    assert ranks == [0, 1, len(workers.FIRST)]


@pytest.mark.parametrize("of", [1, 2, 3])
def test_no_two_workers_draw_the_same_port(of: int) -> None:
    shares = [workers.share_of_ports(number, of=of).split("-") for number in range(of)]
    edges = [int(edge) for share in shares for edge in share]

    assert edges == sorted(set(edges))
    assert FIRST <= edges[0] < edges[-1] <= LAST


def test_a_free_port_is_of_the_range_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREE_PORTS", "31000-31009")

    assert 31000 <= free_port() <= 31009


def test_a_campaign_leaves_the_other_worker_its_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")

    assert workers.processes() == max(1, workers.cores() // 2)
