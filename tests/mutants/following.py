"""Bugs of what follows from an answer: the next try, events, books, holds; and of whom a webhook is from."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

OUTCOMES: Final = "checkout/outcomes.py"
GATEWAY: Final = "checkout/gateways/sandbox.py"
DUNNING: Final = "checkout/dunning.py"
LEDGER: Final = "checkout/ledger.py"
CHARGING: Final = "checkout/charging.py"

MUTANTS: Final = (
    Mutant(
        "funds-retried",
        "a card without funds is tried again within minutes",
        "R29",
        (
            Edit(
                DUNNING,
                "        case DeclineClass.FUNDS:\n            return after_round(step=step, now=now, days=days)\n",
                "        case DeclineClass.FUNDS:\n            return RetryInRound() if counted < 3 else after_round(step=step, now=now, days=days)\n",
            ),
        ),
    ),
    Mutant(
        "dunning-by-real-clock",
        "a dunning date is counted from the real clock",
        "R18",
        (
            Edit(
                OUTCOMES,
                "        step=charge.step,\n        now=now.business,\n",
                "        step=charge.step,\n        now=now.real,\n",
            ),
        ),
    ),
    Mutant(
        "refund-case-forgotten",
        "a capture after a cancel proposes no refund",
        "STATES, captured with void_requested; F33",
        (
            Edit(
                OUTCOMES,
                "    if charge.void_requested:\n        open_case(",
                "    if charge is None:\n        open_case(",
            ),
        ),
        needs=("people",),
    ),
    Mutant(
        "void-forgotten",
        "a charge that was cancelled while in doubt is tried again when it was not charged",
        "STATES, not charged with void_requested; F33",
        (
            Edit(
                OUTCOMES,
                "    if charge.void_requested:\n        void(charge, now=now)\n        return\n    charge.move(",
                "    charge.move(",
            ),
            # The next receive would void it (row 5 of docs/states.md).
            Edit(CHARGING, "    if charge.void_requested or closed:\n", "    if closed:\n"),
        ),
        needs=("people",),
    ),
    Mutant(
        "success-not-told",
        "a capture is booked and no event tells of it",
        "I4",
        (
            Edit(
                OUTCOMES,
                '    record_charge_event(charge, "charge.succeeded", attempt, now=now, captured_amount=captured)\n',
                "    captured.strip()\n",
            ),
        ),
    ),
    Mutant(
        "event-tells-charged-amount",
        "the event of a short capture tells the amount that was asked for",
        "I4; DESIGN §7: analytics bills by it",
        (
            Edit(
                OUTCOMES,
                "    captured = str(approved.amount)\n",
                "    captured = str(charge.amount)\n",
            ),
        ),
        needs=("shorts",),
    ),
    Mutant(
        "event-before-commit",
        "`not charged` is told before the transaction that makes it true",
        "R44; F10; event before commit",
        (
            Edit(
                CHARGING,
                '    failpoint("charging.answered")\n',
                "    if isinstance(answer, NotSent):\n"
                "        committed(lambda: told(decision.attempt_id, clock.now()), deadline=9, clock=clock)\n"
                '    failpoint("charging.answered")\n',
            ),
            Edit(
                CHARGING,
                "from checkout.gateways import ",
                "from checkout.gateways import NotSent, ",
            ),
            Edit(
                CHARGING,
                "def take(\n",
                "def told(attempt_id: UUID, now: Moment) -> None:\n"
                "    charge, attempt = locked_attempt(attempt_id)\n"
                '    record_charge_event(charge, "charge.not_charged", attempt, now=now)\n\n\n'
                "def take(\n",
            ),
            Edit(
                CHARGING,
                "    locked_charge,\n",
                "    locked_attempt,\n    locked_charge,\n    record_charge_event,\n",
            ),
        ),
        needs=("doubts",),
    ),
    Mutant(
        "capture-not-booked",
        "a capture is written on its attempt and in no book",
        "I3; R34; ledger posting missing",
        (
            Edit(
                OUTCOMES,
                "    ledger.post_capture(charge=charge, attempt=attempt, amount=approved.amount, now=now)\n",
                "",
            ),
        ),
    ),
    Mutant(
        "booked-as-charged",
        "a short capture is booked in the amount that was asked for",
        "I3; ledger posting of another amount",
        (
            Edit(
                OUTCOMES,
                "    ledger.post_capture(charge=charge, attempt=attempt, amount=approved.amount, now=now)\n",
                "    ledger.post_capture(charge=charge, attempt=attempt, amount=charge.amount, now=now)\n",
            ),
        ),
        needs=("shorts",),
    ),
    Mutant(
        "unbalanced-books",
        "a capture is booked on one side alone, and no trigger stands behind",
        "R34",
        (
            Edit(LEDGER, "    if sum(postings.values()) != 0:\n", "    if not postings:\n"),
            Edit(
                LEDGER,
                "        postings={A.CLEARING: amount, A.RECEIVABLE: -amount},\n",
                "        postings={A.CLEARING: amount},\n",
            ),
        ),
        sql="DROP TRIGGER checkout_posting_balances ON checkout_ledgerposting;"
        "DROP TRIGGER checkout_entry_balances ON checkout_ledgerentry",
    ),
    Mutant(
        "refused-lane-goes-on",
        "a lane that refuses our key is not paused",
        "DESIGN §4.9: 401 and 403 pause the lane",
        (Edit(OUTCOMES, "    if answer.lane_refused:\n", "    if answer is None:\n"),),
        needs=("network",),
    ),
    Mutant(
        "forged-webhook",
        "a webhook is believed whoever signed it",
        "R28; F24",
        (
            Edit(
                GATEWAY,
                "        if not any(hmac.compare_digest(expected.hexdigest(), one) for one in given):\n",
                "        if not given and expected:\n",
            ),
        ),
        needs=("forged",),
    ),
    Mutant(
        "old-webhook",
        "a webhook is believed however long ago it was signed",
        "R28; F24",
        (
            Edit(
                GATEWAY,
                "        if age > SIGNATURE_TOLERANCE.total_seconds():\n",
                "        if age < 0:\n",
            ),
        ),
        needs=("forged",),
    ),
)
