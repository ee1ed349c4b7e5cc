"""Bugs of what heals: the resolver, the sweep, the drain, dunning dates, webhooks and persons."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

RESCUE: Final = "checkout/rescue.py"
MODEL: Final = "checkout/models/charges.py"
SUBSCRIPTIONS: Final = "checkout/subscriptions.py"
LEDGER: Final = "checkout/ledger.py"

MUTANTS: Final = (
    Mutant(
        "no-resolver",
        "nobody asks about attempts whose outcome is not known",
        "STATES, resolver; no resolver",
        (
            Edit(
                RESCUE,
                "    return _each(\n        list(due),\n",
                "    return _each(\n        list(due)[:0],\n",
            ),
        ),
        needs=("network",),
    ),
    Mutant(
        "resolver-by-state",
        "the resolver asks only where the charge's state says that something is open",
        "STATES, resolver; model: resolver_by_state; F27",
        (
            Edit(
                MODEL,
                "return self.filter(next_query_at__lte=now).order_by",
                "return self.filter(next_query_at__lte=now, charge__state__in="
                '["attempting", "in_doubt", "pending"]).order_by',
            ),
        ),
        needs=("chaos",),
    ),
    Mutant(
        "pending-unowned",
        "nobody asks about what the processor decides later",
        "STATES, resolver; model: pending_unowned",
        (
            Edit(
                MODEL,
                "return self.filter(next_query_at__lte=now).order_by",
                'return self.filter(next_query_at__lte=now).exclude(charge__state="pending").order_by',
            ),
        ),
    ),
    Mutant(
        "expiry-unconfirmed",
        "what is pending is taken for expired without ending it at the processor",
        "STATES, pending: expire() confirmed; F32",
        (
            Edit(
                RESCUE,
                "        return Ask.END, gateway.expire(attempt.pk, deadline=ages.gateway_deadline)\n",
                "        return Ask.END, Expired()\n",
            ),
            Edit(
                RESCUE, "from checkout.gateways import ", "from checkout.gateways import Expired, "
            ),
        ),
        needs=("minutes",),
    ),
    Mutant(
        "pending-cancel",
        "cancelling voids a charge that the processor is still deciding about",
        "STATES, cancel; model: pending_cancel; F33; void after capture",
        (
            Edit(
                RESCUE,
                "    elif charge.state in {S.DUE, S.FAILED_THEN_RETRY, S.EXHAUSTED} and attempt is None:\n",
                "    elif charge.state == S.PENDING or attempt is None:\n",
            ),
        ),
        needs=("people",),
    ),
    Mutant(
        "cancel-voids-in-flight",
        "cancelling voids a charge while its request is on its way",
        "STATES, cancel; F33; void after capture",
        (
            Edit(
                RESCUE,
                "    elif charge.state in {S.DUE, S.FAILED_THEN_RETRY, S.EXHAUSTED} and attempt is None:\n",
                "    elif charge.state not in TERMINAL:\n",
            ),
        ),
        needs=("people",),
    ),
    Mutant(
        "cancel-by-state",
        "cancelling looks at the state alone, and voids what was captured and rewritten",
        "R26; F27; void after capture",
        (
            Edit(
                RESCUE,
                "    if charge.applied_capture():\n        if charge.state not in TERMINAL:\n"
                "            repair_paid(charge, now=now)\n    elif charge.state in",
                "    if charge.state in",
            ),
        ),
        needs=("chaos", "people"),
    ),
    Mutant(
        "cancel-forgets-open",
        "cancelling forgets the charge whose attempt is open",
        "STATES, cancel: void_requested; F33",
        (Edit(RESCUE, "        charge.change(void_requested=True)\n", ""),),
        needs=("people",),
    ),
    Mutant(
        "webhook-trusted",
        "a webhook's word is written down without asking the processor",
        "R28; F24; webhook trusted without query",
        (
            Edit(
                RESCUE,
                "        resolve_attempt(attempt_id=delivery.reference, clock=clock, gateways=gateways, ages=ages)\n",
                "        attempt = Attempt.objects.get(pk=delivery.reference)\n"
                '        if delivery.kind == "charge.approved":\n'
                "            answer = Approved(attempt.amount, attempt.currency, 'webhook')\n"
                "            committed(lambda: record_outcome(attempt_id=attempt.pk, answer=answer,\n"
                "                      sends=attempt.sends, receive=None, now=clock.now(), ages=ages),\n"
                "                      deadline=40, clock=clock)\n",
            ),
            Edit(
                RESCUE, "from checkout.gateways import ", "from checkout.gateways import Approved, "
            ),
        ),
        needs=("webhooks=all",),
    ),
    Mutant(
        "no-sweep",
        "nobody dispatches what went silent",
        "STATES, sweep; F30",
        (
            Edit(
                RESCUE,
                "    return _each(silent, dispatch_one)\n",
                "    return _each(silent[:0], dispatch_one)\n",
            ),
        ),
        needs=("queue",),
    ),
    Mutant(
        "sweep-same-id",
        "the sweep sends the same dispatch a second time",
        "STATES, sweep: disp; sweep double dispatch with same id",
        (
            Edit(
                RESCUE,
                "    charge.change(sweeps=min(charge.sweeps + 1, 20))\n    dispatch(charge, now=now)\n",
                "    charge.change(sweeps=min(charge.sweeps + 1, 20))\n"
                "    outbox.record_dispatch(charge=charge, now=now)\n",
            ),
            Edit(RESCUE, "from checkout import ", "from checkout import outbox, "),
        ),
        needs=("queue",),
    ),
    Mutant(
        "drain-charges",
        "a dead letter of a charge under way begins another attempt",
        "STATES, drain; F6; drain that charges",
        (
            Edit(
                RESCUE,
                "        charge.move(S.IN_DOUBT, **seen(now))\n"
                "        soon = now.real + timedelta(seconds=ages.resolve_steps[0])\n"
                '        attempt.change(next_query_at=soon, doubt="its worker died")\n'
                '        record_charge_event(charge, "charge.in_doubt", attempt, now=now)\n',
                "        not_charged(charge, attempt, verdict=Verdict.NOT_SENT, now=now, ages=ages)\n",
            ),
            Edit(
                RESCUE,
                "from checkout.outcomes import ",
                "from checkout.outcomes import not_charged, ",
            ),
        ),
        needs=("deaths",),
    ),
    Mutant(
        "drain-gap",
        "the drain has no rule for a charge that is exhausted or pending",
        "STATES, drain; model: drain_gap",
        (
            Edit(
                RESCUE,
                '        return charge, f"the charge is {charge.state}"\n',
                "        if charge.state in (S.EXHAUSTED, S.PENDING):\n"
                '            raise LookupError("no rule")\n'
                '        return charge, f"the charge is {charge.state}"\n',
            ),
        ),
        needs=("deaths",),
    ),
    Mutant(
        "drain-forgets",
        "the drain explains a dead letter of a charge that is owed, and dispatches nothing",
        "STATES, drain: present dispatch: disp; model: db_away_left; R33",
        (
            Edit(
                RESCUE,
                '    dispatch(charge, now=now)\n    return charge, f"dispatched again as',
                '    return charge, f"dispatched again as',
            ),
        ),
        needs=("deaths",),
    ),
    Mutant(
        "drain-deletes-first",
        "a dead letter is deleted before its case is committed",
        "R33; F6",
        (
            Edit(
                RESCUE,
                "    def drain(letter: DeadLetter) -> None:\n        committed(\n",
                "    def drain(letter: DeadLetter) -> None:\n        delete(letter)\n"
                '        failpoint("drain.case_committed")\n        committed(\n',
            ),
        ),
        needs=("deaths",),
    ),
    Mutant(
        "dunning-date-ignored",
        "an exhausted charge opens its next round at once",
        "STATES, dunning date; R29; dunning date ignored",
        (
            Edit(
                RESCUE,
                "Charge.objects.filter(awaits=Awaits.DATE, next_round_at__lte=now.business)",
                "Charge.objects.filter(awaits=Awaits.DATE)",
            ),
            Edit(
                RESCUE,
                "    if charge.awaits == Awaits.DATE and date and date <= now.business:\n",
                "    if charge.awaits == Awaits.DATE and date:\n",
            ),
        ),
    ),
    Mutant(
        "dunning-never",
        "a dunning date opens no round",
        "STATES, dunning date",
        (
            Edit(
                RESCUE,
                "    if charge.awaits == Awaits.DATE and date and date <= now.business:\n",
                "    if charge.awaits == Awaits.DATE and date and date < date:\n",
            ),
        ),
    ),
    Mutant(
        "write-off-leaves-receivable",
        "what was written off stays in the books as owed",
        "R34",
        (
            Edit(
                RESCUE,
                "    ledger.close_receivable(charge=charge, kind=EntryKind.WRITTEN_OFF, now=now)\n",
                "",
            ),
        ),
        needs=("people",),
    ),
    Mutant(
        "void-against-write-off",
        "a voided charge is booked as a loss",
        "DESIGN: revenue is reversed; ledger posting to another account",
        (
            Edit(
                LEDGER,
                "    against = A.REVENUE if kind == EntryKind.VOIDED else A.WRITE_OFF\n",
                "    against = A.WRITE_OFF if kind else A.REVENUE\n",
            ),
        ),
        needs=("people",),
    ),
    Mutant(
        "card-opens-nothing",
        "a new card opens no round of what was waiting for one",
        "STATES, new instrument",
        (
            Edit(
                SUBSCRIPTIONS,
                "        open_round(locked_charge(charge_id), step=0, now=now)\n",
                "        locked_charge(charge_id)\n",
            ),
        ),
    ),
    Mutant(
        "unreadable-dropped",
        "a message that nobody can read is acknowledged and kept nowhere",
        "F22",
        (
            Edit(
                RESCUE,
                "    return open_case(\n        CaseKind.UNREADABLE_MESSAGE,\n        None,\n",
                "    return Case(\n        kind=CaseKind.UNREADABLE_MESSAGE,\n"
                "    ) if body else open_case(\n        CaseKind.UNREADABLE_MESSAGE,\n        None,\n",
            ),
        ),
        needs=("poison",),
    ),
)
