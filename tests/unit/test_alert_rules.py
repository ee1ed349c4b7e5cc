"""The alert rules are written against figures that exist, and little of them pages."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkout import metrics
from settlements.paging import Reason

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
NAMES = {value for name, value in vars(metrics).items() if name.isupper()}


def rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(RULES.glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_figures_that_are_exported(rule: dict[str, Any]) -> None:
    asked = set(re.findall(r"checkout_\w+", rule["expr"]))

    assert asked
    assert asked <= NAMES
    assert "sum(" not in rule["expr"], "every web process answers with the same figures"
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description"}


def test_of_finance_only_what_is_above_a_limit_pages() -> None:
    """No rule pages on an open discrepancy: one cent at three in the morning wakes nobody."""
    paging = {r["alert"]: r["expr"] for r in rules() if r["labels"]["severity"] == "page"}

    assert paging == {
        "CheckoutFinancePage": "max by (reason) (checkout_finance_page) > 0",
        "CheckoutFinanceUnseen": "absent(checkout_finance_page)",
    }


def test_the_rule_s_text_names_every_reason() -> None:
    (rule,) = (r for r in rules() if r["alert"] == "CheckoutFinancePage")

    assert all(reason.value in rule["annotations"]["description"] for reason in Reason)
