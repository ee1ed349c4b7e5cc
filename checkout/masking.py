"""What must not be read by others, taken out of a text: e-mail addresses, tokens and keys, card numbers.

For the last place that a text passes before it leaves: a line of the log, a file for somebody else.
"""

import re
from typing import Final

_EMAIL: Final = re.compile(r"[\w.+'-]{1,64}@[\w-]+(?:\.[\w-]+)+")
# The sandbox's and Stripe's tokens of cards, and API keys.
_TOKEN: Final = re.compile(r"\b(?:tok|pm|card|src|sk|rk|ck)_[A-Za-z0-9_-]+")
# 13 to 19 digits, as cards have, in groups or not; not a part of an id or of a longer number.
_DIGITS: Final = re.compile(r"(?<![\w-])(?:\d[ -]?){12,18}\d(?![\w-])")


def mask(text: str) -> str:
    """The text without e-mail addresses, card tokens, keys and card numbers."""
    text = _EMAIL.sub("[e-mail]", text)
    text = _TOKEN.sub("[token]", text)
    return _DIGITS.sub(_unless_not_a_card, text)


def _unless_not_a_card(found: re.Match[str]) -> str:
    digits = [int(digit) for digit in found[0] if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return "[card]" if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else found[0]
