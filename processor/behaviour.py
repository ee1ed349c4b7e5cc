"""What the sandbox does with a card token: pure decisions, used by the process and by simulations.

A token is `tok_<behaviour>[_<option> …][_<anything>]`; what follows the last option is free, so
that every creator can have a token of its own, and with it a history of its own.

| behaviour | what happens |
|---|---|
| approve | captured |
| decline_never, decline_customer_action, decline_funds, decline_soft, decline_technical | declined, always |
| soft_then_approve_N, technical_then_approve_N | N declines (1 if absent), then captured |
| funds_then_approve | one decline for insufficient funds, then captured |
| timeout_after_charge | captured, and no answer ever comes |
| 500_after_charge | captured, answered 500 |
| garbled | captured, answered with half a JSON object |
| lost | the connection is closed before anything is recorded |
| 429_once | turned away with 429, then captured |
| slow[_Ns] | captured after N seconds (control's slow_seconds), answered then |
| pending[_Ns][_decline or _stuck] | decided after N seconds (control's pending_seconds): captured, declined, or never |
| forget | answered as captured, and nothing is recorded |

timeout_after_charge, 500_after_charge, garbled and lost happen to the token's first request; with
the option `always` to every new reference. Repeats of a key are answered from the record, always.
Any other token is declined as `no_such_token`, class never.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from processor.control import Control


class Fate(StrEnum):
    """What becomes of a request."""

    APPROVED = "approved"
    DECLINED = "declined"
    PENDING = "pending"
    DROPPED = "dropped"
    REFUSED = "refused"


class Delivery(StrEnum):
    """How the answer reaches the asker."""

    ANSWER = "answer"
    SILENCE = "silence"
    SERVER_ERROR = "server_error"
    GARBLED = "garbled"
    HANGUP = "hangup"


@dataclass(frozen=True)
class Decline:
    """A no: its class, in the words the service knows, and the processor's own code."""

    decline_class: str
    code: str


@dataclass(frozen=True)
class History:
    """What the journal says of a token: requests decided, dropped or refused so far, no repeats."""

    requests: int = 0


@dataclass(frozen=True)
class Decision:
    """What to do with one new request; `resolves_after` (seconds) and `resolves_to` for a pending."""

    fate: Fate
    decline: Decline | None = None
    delivery: Delivery = Delivery.ANSWER
    recorded: bool = True
    resolves_after: float | None = None
    resolves_to: Fate = Fate.APPROVED


NEVER = Decline("never", "stolen_card")
CUSTOMER_ACTION = Decline("customer_action", "expired_card")
FUNDS = Decline("funds", "insufficient_funds")
SOFT = Decline("issuer_soft", "do_not_honor")
TECHNICAL = Decline("technical", "processing_error")
NO_SUCH_TOKEN = Decline("never", "no_such_token")

APPROVED = Decision(Fate.APPROVED)
_ALWAYS = 10**9
# behaviour → (what the first requests meet, how many of them; _ALWAYS for all)
_RECIPES: dict[str, tuple[Decision, int]] = {
    "approve": (APPROVED, _ALWAYS),
    "decline_never": (Decision(Fate.DECLINED, NEVER), _ALWAYS),
    "decline_customer_action": (Decision(Fate.DECLINED, CUSTOMER_ACTION), _ALWAYS),
    "decline_funds": (Decision(Fate.DECLINED, FUNDS), _ALWAYS),
    "decline_soft": (Decision(Fate.DECLINED, SOFT), _ALWAYS),
    "decline_technical": (Decision(Fate.DECLINED, TECHNICAL), _ALWAYS),
    "soft_then_approve": (Decision(Fate.DECLINED, SOFT), 1),
    "technical_then_approve": (Decision(Fate.DECLINED, TECHNICAL), 1),
    "funds_then_approve": (Decision(Fate.DECLINED, FUNDS), 1),
    "timeout_after_charge": (Decision(Fate.APPROVED, delivery=Delivery.SILENCE), 1),
    "500_after_charge": (Decision(Fate.APPROVED, delivery=Delivery.SERVER_ERROR), 1),
    "garbled": (Decision(Fate.APPROVED, delivery=Delivery.GARBLED), 1),
    "lost": (Decision(Fate.DROPPED, delivery=Delivery.HANGUP), 1),
    "429_once": (Decision(Fate.REFUSED), 1),
    "slow": (APPROVED, _ALWAYS),
    "pending": (Decision(Fate.PENDING), _ALWAYS),
    "forget": (Decision(Fate.APPROVED, recorded=False), _ALWAYS),
}
_COUNTED = ("soft_then_approve", "technical_then_approve")
_ONCE = ("timeout_after_charge", "500_after_charge", "garbled", "lost")
_TIMED = ("slow", "pending")
_TOKEN = re.compile(
    rf"tok_(?P<name>{'|'.join(sorted(_RECIPES, key=len, reverse=True))})(?:_(?P<rest>.*))?",
    re.ASCII | re.DOTALL,
)


@dataclass(frozen=True)
class _Recipe:
    name: str
    times: int
    seconds: float | None
    ending: str


def decide(token: str, history: History, control: Control) -> Decision:
    """What a new request with `token` meets, given what its earlier ones met."""
    recipe = _recipe(token, control)
    if recipe is None:
        return Decision(Fate.DECLINED, NO_SUCH_TOKEN)
    if recipe.name == "pending":
        return _pending(recipe, control)
    first, _ = _RECIPES[recipe.name]
    return first if history.requests < recipe.times else APPROVED


def delay(token: str, control: Control) -> float:
    """The seconds the processor thinks about `token` before it decides."""
    recipe = _recipe(token, control)
    if recipe is None or recipe.name != "slow":
        return 0.0
    return control.slow_seconds if recipe.seconds is None else recipe.seconds


def _pending(recipe: _Recipe, control: Control) -> Decision:
    after = control.pending_seconds if recipe.seconds is None else recipe.seconds
    return Decision(
        Fate.PENDING,
        resolves_after=None if recipe.ending == "stuck" else after,
        resolves_to=Fate.DECLINED if recipe.ending == "decline" else Fate.APPROVED,
    )


def _recipe(token: str, control: Control) -> _Recipe | None:
    override = control.overrides.get(token)
    match = _TOKEN.fullmatch(token if override is None else f"tok_{override}")
    if match is None:
        return None
    name = match["name"]
    words = (match["rest"] or "").split("_")
    times = _RECIPES[name][1]
    if name in _COUNTED and words[0].isdecimal():
        times = int(words[0])
    elif name in _ONCE and words[0] == "always":
        times = _ALWAYS
    return _Recipe(name, times, *_timing(name, words))


def _timing(name: str, words: list[str]) -> tuple[float | None, str]:
    if name not in _TIMED:
        return None, ""
    seconds = None
    if re.fullmatch(r"[0-9]{1,4}s", words[0]):
        seconds, words = float(words[0][:-1]), words[1:]
    ending = words[0] if words and words[0] in ("decline", "stuck") else ""
    return seconds, ending
