"""Every mutant, and what of the model of a charge is none."""

from collections.abc import Mapping
from typing import Final

from tests.mutants import answering, billing, following, receiving, rescuing, telling
from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    *receiving.MUTANTS,
    *answering.MUTANTS,
    *following.MUTANTS,
    *rescuing.MUTANTS,
    *telling.MUTANTS,
    *billing.MUTANTS,
)

# The holes of an earlier wording of the design, each with a trace of the bounded model of a charge.
VARIANTS: Final = (
    *("legal_moves", "last_receive_left", "db_away_left", "notsent_left", "number_reused"),
    *("notsent_stale", "overwrite", "resolver_cas", "send_deadline", "never_again"),
    *("resolver_by_state", "open_by_state", "drain_gap", "three_gap", "paid_gap", "chaos_void"),
    *("void_resend", "hold_resend", "pending_unowned", "pending_cancel", "instrument_race"),
    *("dead_instrument", "stale_dispatch", "restore_cancel", "rebuild_order", "restore_workers"),
)
_NO_RESTORE: Final = "a restore is not built yet: there is nothing that rebuilds from the processor"
ABSENT: Final[Mapping[str, str]] = {
    "restore_cancel": _NO_RESTORE,
    "rebuild_order": _NO_RESTORE,
    "restore_workers": _NO_RESTORE,
}


# The mutants that no schedule has found yet, of fewer than 300 tried: `--renew` decides.
UNDECIDED: Final[frozenset[str]] = frozenset()


class UnknownMutant(Exception):
    """No mutant has this name."""


def named(name: str) -> Mutant:
    """The mutant of this name; raises UnknownMutant."""
    for mutant in MUTANTS:
        if mutant.name == name:
            return mutant
    raise UnknownMutant(name)
