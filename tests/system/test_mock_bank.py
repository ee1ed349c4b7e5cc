"""Statements of a bank that others wrote (mock-bank): whatever order they come in, to the cent."""

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.ports import free_port
from settlements.banking import import_bank_statement
from settlements.models import BankEntry, BankStatement, ImportState
from tests.factories import World
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.django_db]

# In cents: what arrives on each of five banking days; none on the third, the same twice on the last.
DAYS = [[191_100, 1_911], [3_822], [], [1, 999_999_99], [1_999, 1_999]]


@dataclass(frozen=True)
class Bank:
    """Its control address."""

    address: str

    def ask(self, path: str, body: dict[str, Any] | None = None, *, method: str = "POST") -> Any:
        answer = httpx.request(method, f"{self.address}/_mock/{path}", json=body, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def answers(self) -> bool:
        try:
            self.ask("health", method="GET")
        except httpx.HTTPError:
            return False
        return True

    def credit(self, cents: int, name: str) -> None:
        self.ask(
            "credits",
            {"account": "US", "amount": cents, "currency": "USD", "end_to_end_id": name}
            | {"debtor": {"name": "Sandbox Processor"}, "note": f"{name} payout"},
        )

    def statements(self) -> list[str]:
        """The account's camt.053 files so far, the oldest first."""
        sent = self.ask("messages?type=camt.053", method="GET")
        return [each["body"] for each in sent if each["account"] == "US"]

    def balance(self) -> Decimal:
        return Decimal(self.ask("accounts/US", method="GET")["balance"]) / 100


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mockbank",
            "--port",
            str(port),
            "--clock",
            "2026-01-05T09:00",
            "-q",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    bank = Bank(f"http://127.0.0.1:{port}")
    try:
        wait_for(bank.answers, 30, "mock-bank to answer")
        bank.ask("accounts", {"id": "US", "name": "Platform", "currency": "USD", "balance": 0}
                 | {"iban": "GB33BUKB20201555555555", "bic": "MOCKNL2A"})  # fmt: skip
        yield bank
    finally:
        process.kill()
        process.wait()


def take_in(texts: list[str], folder: Path, world: World) -> None:
    for number, text in enumerate(texts):
        path = folder / f"{number}.xml"
        path.write_text(text, encoding="utf-8")
        import_bank_statement(path=path, by="test", now=world.clock.now())


def test_a_week_of_a_bank_is_taken_in_to_the_cent_in_any_order(bank: Bank, tmp_path: Path) -> None:
    """R39, R40, R41: its own balance at the end is ours."""
    for day, credits in enumerate(DAYS):
        for place, cents in enumerate(credits):
            bank.credit(cents, f"po_{day}_{place}")
        bank.ask("advance?days=1")
    texts = bank.statements()
    random.Random(7).shuffle(texts)

    take_in(texts, tmp_path, World())

    states = set(BankStatement.objects.values_list("state", flat=True))
    assert (len(texts), states) == (len(DAYS), {ImportState.ACCEPTED})
    assert sum(BankEntry.objects.values_list("net", flat=True), Decimal()) == bank.balance()
    assert BankStatement.objects.order_by("-sequence")[0].closing == bank.balance()
    assert BankEntry.objects.filter(amount=Decimal("19.99")).count() == 2
    assert BankEntry.objects.get(end_to_end_id="po_0_0").net == Decimal("1911.00")


def test_an_entry_that_the_bank_leaves_off_is_noticed(bank: Bank, tmp_path: Path) -> None:
    """R40: its behaviour `statement-gap`; what follows waits for a true one."""
    bank.credit(1_999, "po_1")
    bank.ask("advance?days=1")
    bank.ask("accounts/US", {"behaviour": "statement-gap"}, method="PATCH")
    bank.credit(2_999, "po_2")
    bank.ask("advance?days=2")

    take_in(bank.statements(), tmp_path, World())

    first, gap, after = BankStatement.objects.order_by("sequence")
    assert (first.state, gap.state, after.state) == ("accepted", "quarantined", "quarantined")
    assert "make 19.99, but the closing is 49.98" in gap.reason
    assert after.reason == "opening 49.98 is not the former closing 19.99"
