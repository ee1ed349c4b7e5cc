"""Bugs of the gateway and of tx 2: what an answer is taken for; what follows is in following.py."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

OUTCOMES: Final = "checkout/outcomes.py"
GATEWAY: Final = "checkout/gateways/sandbox.py"

_TECHNICAL: Final = 'Declined(DeclineClass.TECHNICAL, "timeout", "")'

MUTANTS: Final = (
    # --- What an answer is taken for ---------------------------------------------------------------
    Mutant(
        "timeout-is-decline",
        "a charge that nobody answered is taken for declined",
        "R20; F8, F9; time-out taken for a decline",
        (
            Edit(
                GATEWAY,
                "            json=self._order(request),\n        )\n"
                "        if isinstance(reply, InDoubt | NotSent):\n            return reply\n",
                "            json=self._order(request),\n        )\n"
                f"        if isinstance(reply, InDoubt):\n            return {_TECHNICAL}\n"
                "        if isinstance(reply, NotSent):\n            return reply\n",
            ),
        ),
        needs=("network",),
    ),
    Mutant(
        "timeout-is-not-sent",
        "a charge that nobody answered is taken for never sent",
        "R20; F8, F9",
        (
            Edit(
                GATEWAY,
                "        except (httpx.HTTPError, httpx.StreamError, Unreadable, OSError) as error:\n"
                "            self._settle(InDoubt(_named(error)))\n",
                "        except (httpx.HTTPError, httpx.StreamError, Unreadable, OSError) as error:\n"
                "            self._settle(NotSent(_named(error)))\n",
            ),
        ),
        needs=("network",),
    ),
    Mutant(
        "server-error-is-decline",
        "a 500 is taken for a decline, whatever the processor did before it",
        "R20; F9",
        (
            Edit(
                GATEWAY,
                "            case _:\n                return _doubt(reply)\n\n    def query(",
                f"            case _:\n                return {_TECHNICAL}\n\n    def query(",
            ),
        ),
        needs=("network",),
    ),
    Mutant(
        "garbled-is-decline",
        "an answer that cannot be read is taken for a decline",
        "R20; F9",
        (
            Edit(
                GATEWAY,
                '        return InDoubt(f"unreadable answer: {error}")\n',
                f"        return {_TECHNICAL}\n",
            ),
        ),
    ),
    Mutant(
        "any-404-is-not-found",
        "a 404 of something in between is taken for the processor's word",
        "R22",
        (Edit(GATEWAY, "            match _error(reply):\n", "            match 'not_found':\n"),),
        needs=("doubts",),
    ),
    Mutant(
        "unanswered-is-not-found",
        "a query that nobody answered is taken for `not found`",
        "R22",
        (
            Edit(
                GATEWAY,
                '        reply = self._call("GET", f"/v1/charges/{reference}", deadline=deadline)\n'
                "        if isinstance(reply, InDoubt | NotSent):\n"
                '            return InDoubt(f"not answered: {reply.reason}")\n',
                '        reply = self._call("GET", f"/v1/charges/{reference}", deadline=deadline)\n'
                "        if isinstance(reply, InDoubt | NotSent):\n"
                "            return NotFound()\n",
            ),
        ),
        needs=("doubts",),
    ),
    Mutant(
        "wrong-currency",
        "an order names another currency than the charge",
        "R9; wrong currency",
        (
            Edit(
                GATEWAY,
                '            "currency": request.currency,\n',
                '            "currency": "EUR",\n',
            ),
        ),
    ),
    Mutant(
        "order-rounded",
        "an order asks for whole dollars while the attempt keeps its cents",
        "R1; amount truncated",
        (
            Edit(
                GATEWAY,
                '"amount": str(usd(request.amount)),',
                '"amount": str(int(request.amount)),',
            ),
        ),
    ),
    Mutant(
        "short-is-full",
        "what was captured short is written down as the whole amount",
        "I3; captured short taken as paid",
        (
            Edit(
                OUTCOMES,
                "        captured_amount=approved.amount,\n        captured_currency",
                "        captured_amount=charge.amount,\n        captured_currency",
            ),
        ),
        needs=("shorts",),
    ),
    # --- Outcome × attempt -------------------------------------------------------------------------
    Mutant(
        "overwrite",
        "an outcome is written over one that is final",
        "STATES, outcome × attempt; model: overwrite; F12, F13; no re-check after the call",
        (Edit(OUTCOMES, "    if not attempt.is_open:\n", "    if attempt.has_capture:\n"),),
        sql="DROP TRIGGER checkout_attempt_guard ON checkout_attempt",
        needs=("doubts",),
    ),
    Mutant(
        "no-recheck-after-call",
        "tx 2 writes whatever this worker heard, though somebody wrote the outcome meanwhile",
        "STATES, outcome × attempt; F12, F13",
        (
            Edit(
                OUTCOMES,
                "    if not attempt.is_open:\n"
                "        if isinstance(answer, Approved) and not attempt.has_capture:\n",
                "    if not attempt.is_open and receive is None:\n"
                "        if isinstance(answer, Approved) and not attempt.has_capture:\n",
            ),
        ),
        needs=("doubts",),
    ),
    Mutant(
        "late-capture-dropped",
        "a capture that is heard of after a decline or a `not found` is dropped",
        "STATES, outcome × attempt: late capture; R27",
        (
            Edit(
                OUTCOMES,
                "        if isinstance(answer, Approved) and not attempt.has_capture:\n",
                "        if isinstance(answer, Approved) and attempt.is_open:\n",
            ),
        ),
        needs=("doubts", "last_defence"),
    ),
    Mutant(
        "never-again",
        "what was not found is never asked about again",
        "STATES, resolver; model: never_again; R22",
        (
            Edit(
                OUTCOMES,
                "attempt.change(next_query_at=again if verdict == Verdict.NOT_FOUND else None)",
                "attempt.change(next_query_at=None if again else None)",
            ),
        ),
        needs=("doubts", "last_defence"),
    ),
    Mutant(
        "second-not-sent",
        "`not sent` is believed on a second send too",
        "STATES, outcome × attempt; R20; F7; NotSent believed on second send",
        (
            Edit(
                OUTCOMES,
                "    if attempt.sends != 1:\n",
                "    if attempt.sends == 0:\n",
            ),
        ),
        needs=("doubts",),
    ),
    Mutant(
        "stale-not-sent",
        "`not sent` is believed by what the worker knew when it sent, not by what is known now",
        "model: notsent_stale; R20",
        (
            Edit(
                OUTCOMES,
                "    _write(charge, attempt, answer, asked=asked,",
                "    if isinstance(answer, NotSent):\n        attempt.sends = sends\n"
                "    _write(charge, attempt, answer, asked=asked,",
            ),
        ),
        needs=("doubts",),
    ),
    Mutant(
        "not-sent-left",
        "after `not sent` the message is left and nothing is dispatched",
        "STATES, not charged; model: notsent_left",
        (
            Edit(
                OUTCOMES,
                "    charge.move(S.FAILED_THEN_RETRY, retry_at=None)\n    dispatch(charge, now=now)\n",
                "    charge.move(S.FAILED_THEN_RETRY, retry_at=None)\n"
                "    if verdict != Verdict.NOT_SENT:\n        dispatch(charge, now=now)\n",
            ),
            Edit(
                OUTCOMES,
                "    if receive.count >= dunning.ATTEMPTS_A_ROUND:\n",
                "    if receive.count >= dunning.ATTEMPTS_A_ROUND and charge.retry_at:\n",
            ),
        ),
        needs=("network",),
    ),
    Mutant(
        "last-receive-left",
        "a decline leaves the message, at its third receive too",
        "STATES †; model: last_receive_left; R33; off by one in receives",
        (
            Edit(
                OUTCOMES,
                "    if receive.count >= dunning.ATTEMPTS_A_ROUND:\n",
                "    if receive.count > dunning.ATTEMPTS_A_ROUND:\n",
            ),
        ),
        needs=("crash",),
    ),
    Mutant(
        "left-though-superseded",
        "a message is left though a newer dispatch has taken its place",
        "STATES †",
        (
            Edit(
                OUTCOMES,
                "    if (receive.round, receive.dispatch) != (charge.round, charge.dispatch):\n"
                "        return Fate.ACKNOWLEDGE\n",
                "",
            ),
        ),
        needs=("network",),
    ),
    Mutant(
        "acknowledged-in-vain",
        "a message that is to come again is acknowledged",
        "STATES †; ack before work",
        (
            Edit(
                OUTCOMES,
                "        return Fate.ACKNOWLEDGE\n    return Fate.LEAVE\n",
                "        return Fate.ACKNOWLEDGE\n    return Fate.ACKNOWLEDGE\n",
            ),
        ),
    ),
    Mutant(
        "not-charged-not-dispatched",
        "what the resolver finds not charged is left to itself",
        "STATES, not charged: failed_then_retry + disp",
        (
            Edit(
                OUTCOMES,
                "    charge.move(S.FAILED_THEN_RETRY, retry_at=None)\n    dispatch(charge, now=now)\n",
                "    charge.move(S.FAILED_THEN_RETRY, retry_at=None)\n",
            ),
        ),
        needs=("network",),
    ),
    Mutant(
        "not-found-at-once",
        "one `not found` is believed, however young the attempt is",
        "R22; not-found believed at once",
        (
            Edit(OUTCOMES, "    if asked is None or asked.at < due:\n", "    if asked is None:\n"),
            Edit(
                OUTCOMES,
                "    if attempt.not_found < asked.repeats:\n",
                "    if attempt.not_found < 1:\n",
            ),
        ),
        needs=("network",),
    ),
    Mutant(
        "not-found-too-young",
        "three `not found` within minutes of the last send are believed",
        "R22",
        (
            Edit(
                OUTCOMES,
                "    due = attempt.last_sent_at + _silence(asked, ages=ages)\n",
                "    due = attempt.last_sent_at\n",
            ),
        ),
        needs=("network",),
    ),
    Mutant(
        "not-found-by-the-write",
        "`not found` is judged by when it is written, however long ago it was asked",
        "R22; F13",
        (
            Edit(
                OUTCOMES,
                "    if asked is None or asked.at < due:\n",
                "    if asked is None or now.real < due:\n",
            ),
            Edit(
                OUTCOMES,
                "    if attempt.not_found < asked.repeats:\n",
                "    if attempt.not_found < 1:\n",
            ),
        ),
        needs=("doubts",),
    ),
    Mutant(
        "resolver-cas",
        "`not found` counts by the age of the attempt, though it was sent again since the query",
        "STATES, resolver; model: resolver_cas; R22; F13",
        (
            Edit(
                OUTCOMES,
                "    if isinstance(answer, NotFound | Expired) and attempt.sends != sends:\n",
                "    if isinstance(answer, NotFound | Expired) and attempt.sends < sends:\n",
            ),
            Edit(
                OUTCOMES,
                "    due = attempt.last_sent_at + _silence(",
                "    due = attempt.started_at + _silence(",
            ),
            Edit(OUTCOMES, "    due = max(due, attempt.next_query_at or due)\n", ""),
            Edit(
                OUTCOMES,
                "    if asked is None or asked.at < due:\n",
                "    if asked is None or now.real < due:\n",
            ),
            Edit(
                OUTCOMES,
                "    if attempt.not_found < asked.repeats:\n",
                "    if attempt.not_found < 1:\n",
            ),
        ),
        needs=("doubts",),
    ),
)
