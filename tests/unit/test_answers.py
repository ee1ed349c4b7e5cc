"""What a processor answered, in words that people may read and that hold no secret."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from checkout.gateways import (
    Answer,
    Approved,
    DeclineClass,
    Declined,
    Expired,
    InDoubt,
    NotFound,
    Pending,
    in_words,
)

ANSWERS: list[tuple[Answer, str]] = [
    (Approved(Decimal("199.00"), "USD", "ch_1"), "captured 199.00 USD, its reference ch_1"),
    (
        Declined(DeclineClass.FUNDS, "insufficient_funds", "ch_2"),
        "declined, funds: insufficient_funds, its reference ch_2",
    ),
    (Declined(DeclineClass.NEVER, "stolen"), "declined, never: stolen, its reference none"),
    (Pending(None), "pending"),
    (Pending(datetime(2026, 2, 1, 9, 30, tzinfo=UTC)), "pending, until 2026-02-01 09:30:00 UTC"),
    (InDoubt("500: broken\n pipe"), "no answer to go by: 500: broken pipe"),
    (NotFound(), "not found"),
    (Expired(), "expired: it will not be captured any more"),
]


@pytest.mark.parametrize(("answer", "words"), ANSWERS)
def test_every_answer_has_its_words(answer: Answer, words: str) -> None:
    assert in_words(answer) == words


@pytest.mark.parametrize(
    "secret",
    ["Bearer eyJhbGciOi.J9", "sk_live_51Hx", "tok_visa", "whsec_abc", "4242424242424242"],
)
def test_no_key_token_or_card_number_is_kept(secret: str) -> None:
    words = in_words(InDoubt(f"unreadable answer: status '{secret}' given"))

    assert secret not in words
    assert words.endswith("given")
