"""Bugs of tx 1 and of the call: what a receive may begin, send again, or only ask about."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

CHARGING: Final = "checkout/charging.py"
MOVES: Final = "checkout/moves.py"
MODEL: Final = "checkout/models/charges.py"

# The three attempts, the capture and the dead card are watched by this trigger too.
NO_GUARD: Final = "DROP TRIGGER checkout_attempt_begins ON checkout_attempt"

MUTANTS: Final = (
    Mutant(
        "stale-dispatch",
        "a message of an older dispatch of the round is carried out like the present one",
        "STATES receive, row 1; model: stale_dispatch; F23",
        (
            Edit(
                CHARGING,
                "present = (receive.round, receive.dispatch) == (charge.round, charge.dispatch)",
                "present = receive.round == charge.round",
            ),
        ),
        needs=("queue",),
    ),
    Mutant(
        "open-by-state",
        "an open attempt is looked for only where the state says that there is one",
        "STATES receive, row 2; model: open_by_state",
        (
            Edit(
                CHARGING,
                "    attempt = charge.open_attempt()\n    if attempt and (charge.state",
                "    attempt = charge.open_attempt() if charge.state == S.ATTEMPTING else None\n"
                "    if attempt and (charge.state",
            ),
        ),
        needs=("chaos",),
    ),
    Mutant(
        "void-resend",
        "a request is sent again although the cancel was acknowledged",
        "STATES receive, row 3; model: void_resend; F33",
        (
            Edit(
                CHARGING, "if charge.void_requested or held or forgotten:", "if held or forgotten:"
            ),
        ),
        needs=("meetings", "crash"),
    ),
    Mutant(
        "hold-resend",
        "a request is sent again during a hold or pause",
        "STATES receive, row 3; model: hold_resend; R52",
        (
            Edit(
                CHARGING,
                "if charge.void_requested or held or forgotten:",
                "if charge.void_requested or forgotten:",
            ),
        ),
        needs=("meetings",),
    ),
    Mutant(
        "key-too-old",
        "a key is sent again after the processor has forgotten it",
        "STATES receive, row 3; R24",
        (Edit(CHARGING, "or held or forgotten:", "or held:"),),
        needs=("meetings",),
    ),
    Mutant(
        "new-key-on-resend",
        "a second send of an attempt carries a key of its own",
        "STATES receive, row 4; R19; F7",
        (
            Edit(
                CHARGING,
                "        reference=attempt.pk,\n        amount=attempt.amount,",
                "        reference=attempt.pk if attempt.sends == 1 else Attempt.derive_id("
                "charge_id=attempt.pk, round=1, number=attempt.sends),\n"
                "        amount=attempt.amount,",
            ),
        ),
        needs=("crash",),
    ),
    Mutant(
        "paid-gap",
        "a receive that finds the capture acknowledges and leaves the charge as it is",
        "STATES receive, row 6; model: paid_gap; F27",
        (
            Edit(
                CHARGING,
                "        repair_paid(charge, now=now)\n        return Fate.ACKNOWLEDGE",
                "        return Fate.ACKNOWLEDGE",
            ),
        ),
        needs=("chaos",),
    ),
    Mutant(
        "paid-by-state",
        "whether a charge is paid is read from its state alone, and no trigger stands behind",
        "STATES receive, row 6; R26; F27",
        (
            Edit(CHARGING, "    if charge.applied_capture():\n", "    if charge.state in ():\n"),
            Edit(
                CHARGING, "closed = ledger.receivable(charge_id=charge.pk) <= 0", "closed = False"
            ),
        ),
        sql=NO_GUARD,
        needs=("chaos",),
    ),
    Mutant(
        "voided-is-charged",
        "that a receivable is closed is not looked at: a voided charge that was rewritten goes on",
        "STATES receive, row 5; model: chaos_void; F27",
        (Edit(CHARGING, "closed = ledger.receivable(charge_id=charge.pk) <= 0", "closed = False"),),
        needs=("chaos", "people"),
    ),
    Mutant(
        "three-gap",
        "a receive that finds three attempts done acknowledges and leaves the charge as it is",
        "STATES receive, row 7; model: three_gap",
        (
            Edit(
                CHARGING,
                "        exhaust(charge, plan=plan, now=now)\n        return Fate.ACKNOWLEDGE\n"
                "    return None",
                "        return Fate.ACKNOWLEDGE if plan else None\n    return None",
            ),
        ),
        needs=("chaos",),
    ),
    Mutant(
        "fourth-attempt",
        "a round has four attempts",
        "STATES receive, row 7; R23; off by one",
        (
            Edit(
                "checkout/dunning.py",
                "if counted < ATTEMPTS_A_ROUND:",
                "if counted <= ATTEMPTS_A_ROUND:",
            ),
            Edit(
                CHARGING,
                "if charge.counted_attempts() >= dunning.ATTEMPTS_A_ROUND:",
                "if charge.counted_attempts() > dunning.ATTEMPTS_A_ROUND:",
            ),
        ),
        sql=NO_GUARD,
    ),
    Mutant(
        "third-attempt-missing",
        "a round is over after two attempts",
        "R23; off by one",
        (
            Edit(
                "checkout/dunning.py",
                "if counted < ATTEMPTS_A_ROUND:",
                "if counted < ATTEMPTS_A_ROUND - 1:",
            ),
        ),
    ),
    Mutant(
        "number-reused",
        "an attempt takes the number of one that was not charged, and with it its key",
        "STATES receive, row 11; model: number_reused",
        (
            Edit(
                CHARGING,
                "number = max((a.number for a in charge.round_attempts()), default=0) + 1",
                "number = charge.counted_attempts() + 1",
            ),
        ),
        needs=("network",),
    ),
    Mutant(
        "not-charged-counts",
        "what was never charged counts among the three attempts of a round",
        "STATES, outcomes: `0` counts in nothing; R52",
        (
            Edit(
                MODEL,
                "return sum(a.outcome != AttemptOutcome.NOT_CHARGED for a in self.round_attempts())",
                "return len(self.round_attempts())",
            ),
        ),
        needs=("network", "soft_cards"),
    ),
    Mutant(
        "dead-instrument",
        "an attempt is begun on a card that was refused for good",
        "STATES receive, row 8; model: dead_instrument; R29",
        (
            Edit(
                CHARGING,
                "if instrument is None or instrument.dead_at:  # row 8",
                "if instrument is None:",
            ),
        ),
        sql=NO_GUARD,
    ),
    Mutant(
        "hold-ignored",
        "an attempt is begun during a hold or pause",
        "STATES receive, row 9; R52",
        (
            Edit(
                CHARGING,
                "    if held:\n        return held",
                "    if held and not held:\n        return held",
            ),
        ),
        needs=("people",),
    ),
    Mutant(
        "cap-ignored",
        "a card is tried as often as there is something to collect",
        "STATES receive, row 9; R30",
        (
            Edit(
                CHARGING,
                "    if not full:\n        return None\n",
                "    if full or not full:\n        return None\n",
            ),
        ),
        needs=("card_tries=3",),
    ),
    Mutant(
        "two-at-once",
        "two charges of a creator are attempted at once, and no unique index stands behind",
        "STATES receive, row 9; R25; no unique index",
        (
            Edit(
                CHARGING,
                "    if Charge.objects.filter(creator_id=charge.creator_id, state=S.ATTEMPTING).exists():\n",
                "    if charge is None:\n",
            ),
        ),
        sql="DROP INDEX charge_one_attempting",
        needs=("busy",),
    ),
    Mutant(
        "backoff-ignored",
        "a message that comes early is carried out before its backoff has passed",
        "STATES receive, row 10",
        (Edit(CHARGING, "return charge.retry_at if early else None", "return None"),),
        needs=("people",),
    ),
    Mutant(
        "send-deadline",
        "a worker that was frozen sends when it wakes, however late",
        "STATES, before the first byte; model: send_deadline; R20; stale dispatch executed",
        (
            Edit(
                CHARGING,
                "    if clock.monotonic() - decision.since > ages.send_within:\n        return None\n",
                "",
            ),
        ),
        needs=("freeze",),
    ),
    Mutant(
        "worker-judges",
        "a worker that asks about an attempt and hears `not found` believes it",
        "R22; not-found believed at once",
        (
            Edit(
                CHARGING,
                'return InDoubt("not found yet") if isinstance(answer, NotFound) else answer',
                "return NotSent('not found') if isinstance(answer, NotFound) else answer",
            ),
            Edit(
                CHARGING,
                "from checkout.gateways import ",
                "from checkout.gateways import NotSent, ",
            ),
        ),
        needs=("meetings", "crash"),
    ),
    Mutant(
        "amount-truncated",
        "an attempt is made over whole dollars",
        "R1, R3; amount truncated",
        (
            Edit(
                CHARGING,
                "        amount=charge.amount,\n        started_at=now.real,",
                "        amount=int(charge.amount),\n        started_at=now.real,",
            ),
        ),
    ),
    Mutant(
        "attempts-not-counted",
        "the figure of attempts numbered above 1 misses the second ones",
        "DESIGN §7: checkout_service_retry_count",
        (Edit(CHARGING, "    if number > 1:\n", "    if number > 2:\n"),),
    ),
    Mutant(
        "legal-moves",
        "the table of moves has no way from an open attempt to voided",
        "STATES; model: legal_moves",
        (
            Edit(
                MODEL,
                "    S.IN_DOUBT: frozenset({S.SUCCEEDED, S.FAILED_THEN_RETRY, S.EXHAUSTED, S.VOIDED}),\n"
                "    S.PENDING: frozenset({S.SUCCEEDED, S.FAILED_THEN_RETRY, S.EXHAUSTED, S.VOIDED}),\n",
                "    S.IN_DOUBT: frozenset({S.SUCCEEDED, S.FAILED_THEN_RETRY, S.EXHAUSTED}),\n"
                "    S.PENDING: frozenset({S.SUCCEEDED, S.FAILED_THEN_RETRY, S.EXHAUSTED}),\n",
            ),
        ),
        needs=("meetings",),
    ),
    Mutant(
        "instrument-race",
        "a card that came while the old one was refused does not open the next round",
        "STATES, new instrument; model: instrument_race",
        (
            Edit(
                MOVES,
                "    if awaits == Awaits.INSTRUMENT and newest and not newest.dead_at:\n",
                "    if newest is ...:\n",
            ),
        ),
        needs=("meetings",),
    ),
    Mutant(
        "void-leaves-receivable",
        "a voided charge stays in the books as owed",
        "STATES, cancel; R34",
        (
            Edit(
                MOVES,
                "    ledger.close_receivable(charge=charge, kind=EntryKind.VOIDED, now=now)\n",
                "",
            ),
        ),
        needs=("people",),
    ),
    Mutant(
        "dispatch-not-raised",
        "a new message carries the number of the one before it",
        "STATES, disp; sweep double dispatch with same id",
        (
            Edit(
                MOVES,
                "charge.change(dispatch=charge.dispatch + 1, last_seen_at=now.real)",
                "charge.change(last_seen_at=now.real)",
            ),
        ),
    ),
)
