"""Bugs on the way out: the outbox, its relays, and the commit that everything hangs on."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

OUTBOX: Final = "checkout/outbox.py"
RELAY: Final = "checkout/relay.py"
COMMIT: Final = "checkout/commit.py"

MUTANTS: Final = (
    Mutant(
        "mark-before-send",
        "a relay marks a batch before it sends it",
        "R44; F5, F15; mark before send",
        (
            Edit(
                RELAY,
                "    sent = _end(messages, _begin(at_once(send), messages))\n    return Batch(len(messages), _settle(lock_connection, sent, door=door, now=now))\n",
                "    answers = [Acknowledged(message.id) for message in messages]\n"
                "    settled = _settle(lock_connection, Sent(messages, answers), door=door, now=now)\n"
                "    _end(messages, _begin(at_once(send), messages))\n"
                "    return Batch(len(messages), settled)\n",
            ),
            Edit(
                RELAY,
                "from checkout.messages import ",
                "from checkout.messages import Acknowledged, ",
            ),
        ),
        needs=("crash",),
    ),
    Mutant(
        "relay-reorders",
        "a relay sends the newest messages first",
        "I5; R44; relays that reorder",
        (
            Edit(
                OUTBOX,
                "      ORDER BY p.message_id LIMIT %(limit)s\n    )\n",
                "      ORDER BY p.message_id DESC LIMIT %(limit)s\n    )\n",
            ),
            Edit(
                OUTBOX,
                "    ORDER BY waiting.message_id\n",
                "    ORDER BY waiting.message_id DESC\n",
            ),
        ),
    ),
    Mutant(
        "overtaken",
        "after a message that failed the later ones of its key are marked all the same",
        "I5; R44; F16",
        (Edit(OUTBOX, "        elif message.key not in stopped:\n", "        else:\n"),),
        killed_by="tests/integration/test_relay.py"
        "::test_after_a_failed_row_later_rows_of_its_key_are_sent_again_behind_it",
    ),
    Mutant(
        "no-report-is-sent",
        "a message without a delivery report is taken for sent",
        "F16",
        (
            Edit(
                OUTBOX,
                "        if isinstance(answer, Refused):\n            failed.append(answer)\n",
                "        if isinstance(answer, Refused) and not answer.permanent:\n"
                "            sent.append(Acknowledged(message.id))\n"
                "        elif isinstance(answer, Refused):\n            failed.append(answer)\n",
            ),
        ),
        needs=("broker",),
    ),
    Mutant(
        "new-id-on-resend",
        "a message that is sent again carries a new id",
        "I4; F15; republish new ids",
        (
            Edit(
                OUTBOX,
                "      SELECT id, event_id, key, event_seq, type, subject, payload, created_at\n",
                "      SELECT id, CASE WHEN (SELECT tries FROM checkout_pendingmessage w\n"
                "          WHERE w.message_id = waiting.message_id) > 0 THEN gen_random_uuid()\n"
                "        ELSE event_id END AS event_id, key, event_seq, type, subject, payload, created_at\n",
            ),
        ),
        needs=("queue",),
    ),
    Mutant(
        "delay-ignored",
        "a dispatch leaves before its time",
        "STATES, disp with available_at",
        (
            Edit(
                OUTBOX,
                "AND (p.available_at <= %(now)s OR p.door = 'kafka')\n",
                "AND %(now)s IS NOT NULL\n",
            ),
        ),
    ),
    Mutant(
        "sequence-not-raised",
        "two events of a creator carry the same number, and no unique index stands behind",
        "I5; R44; event_seq not raised",
        (
            Edit(
                OUTBOX,
                "      UPDATE checkout_creator SET event_seq = event_seq + 1\n",
                "      UPDATE checkout_creator SET event_seq = greatest(event_seq, 1)\n",
            ),
        ),
        sql="DROP INDEX outbox_sequence",
    ),
    Mutant(
        "random-event-ids",
        "a fact that is told again is told with another id",
        "I4; R51",
        (
            Edit(
                OUTBOX,
                '    return uuid5(subject, f"{type}:{round}:{number}:{key}")\n',
                '    return uuid5(uuid4(), f"{subject}:{type}:{round}:{number}:{key}")\n',
            ),
            Edit(OUTBOX, "from uuid import UUID, uuid5\n", "from uuid import UUID, uuid4, uuid5\n"),
        ),
    ),
    Mutant(
        "loss-is-success",
        "a commit whose acknowledgement was lost is taken for done",
        "R50; F3",
        (
            Edit(
                COMMIT,
                "            # A dead connection is only noticed at its next use;",
                "            return None\n            # A dead connection is only noticed at its next use;",
            ),
        ),
        needs=("commits",),
    ),
    Mutant(
        "loss-is-failure",
        "a commit whose acknowledgement was lost is given up, though it may have happened",
        "R50; F3",
        (Edit(COMMIT, "            if not is_lost(error):\n", "            if error:\n"),),
        needs=("commits",),
    ),
    Mutant(
        "parked-holds-nothing",
        "what stands behind a parked message of its key overtakes it",
        "I5; R44; parked message not holding its key",
        (
            Edit(
                OUTBOX,
                "AND held.parked_at IS NOT NULL\n",
                "AND held.parked_at IS NULL AND held.message_id < 0\n",
            ),
        ),
        killed_by="tests/integration/test_relay.py"
        "::test_a_row_refused_for_good_is_parked_with_a_case_and_holds_only_its_key",
    ),
    Mutant(
        "tx2-without-lock",
        "a charge is read and moved without its creator's lock",
        "R25; F12, F13; tx2 without row lock",
        (
            Edit(
                "checkout/moves.py",
                "    Creator.lock([creator_id])\n    rows = ",
                "    rows = ",
            ),
        ),
        killed_by="tests/integration/test_charging_races.py"
        "::test_fifty_parallel_tasks_of_a_creator_make_one_call_at_a_time",
    ),
)
