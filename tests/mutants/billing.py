"""Bugs of what is owed: dates, prices, terms, subscriptions and the requests that start them."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

BILLING: Final = "checkout/billing.py"
ONCE: Final = "checkout/http/once.py"
SUBSCRIPTIONS: Final = "checkout/subscriptions.py"

MUTANTS: Final = (
    Mutant(
        "day-early",
        "a period is billed a day before it begins",
        "R12, R15; billing period off by a day",
        (
            Edit(
                BILLING,
                "        next_at=begins_at(end, time_zone),\n",
                "        next_at=begins_at(end, time_zone) - relativedelta(days=1),\n",
            ),
        ),
    ),
    Mutant(
        "day-late",
        "a period is billed a day after it began",
        "R12, R15; billing period off by a day",
        (
            Edit(
                BILLING,
                "        next_at=begins_at(end, time_zone),\n",
                "        next_at=begins_at(end, time_zone) + relativedelta(days=1),\n",
            ),
        ),
    ),
    Mutant(
        "period-short",
        "a period ends a day before the next one begins",
        "R14: half-open, no sliver; billing period off by a day",
        (
            Edit(
                BILLING,
                "        period_end=period.end,\n        amount",
                "        period_end=period.end - relativedelta(days=1),\n        amount",
            ),
        ),
    ),
    Mutant(
        "month-end-drift",
        "after February the 31st has become the 28th for ever",
        "R11; month-end drift",
        (
            Edit(
                BILLING,
                "    end = period_end(anchor=anchor, interval=interval, count=count, start=start)\n",
                "    end = period_end(anchor=start, interval=interval, count=count, start=start)\n",
            ),
        ),
    ),
    Mutant(
        "time-zone-ignored",
        "a local day begins at midnight in London",
        "R12",
        (
            Edit(
                BILLING,
                "time(0), ZoneInfo(time_zone)).astimezone(UTC)",
                "time(0), ZoneInfo(time_zone and 'UTC')).astimezone(UTC)",
            ),
        ),
    ),
    Mutant(
        "agreed-short",
        "a checkout agrees on three cents less than the plan's price, and its event tells the same",
        "I3; DESIGN §1: to the cent",
        (
            Edit(
                SUBSCRIPTIONS,
                "    today = now.business.astimezone(ZoneInfo(creator.time_zone)).date()\n"
                "    subscription = ",
                "    today = now.business.astimezone(ZoneInfo(creator.time_zone)).date()\n"
                "    plan.price -= plan.price.__class__('0.03')\n"
                "    subscription = ",
            ),
        ),
    ),
    Mutant(
        "newest-terms",
        "a period is billed by the newest terms, though they begin later",
        "R7; plan change repricing an old period",
        (
            Edit(
                BILLING,
                "                  WHERE subscription_id = s.id AND starts_on <= s.next_period_start\n",
                "                  WHERE subscription_id = s.id\n",
            ),
        ),
        needs=("people", "without=bill"),
    ),
    Mutant(
        "plan-change-backdated",
        "a plan change prices the period that has begun and was not billed yet",
        "R7; plan change repricing an old period",
        (
            Edit(
                SUBSCRIPTIONS,
                "    while begins_at(start, subscription.time_zone) <= now.business:\n",
                "    while begins_at(start, subscription.time_zone) is now:\n",
            ),
        ),
        needs=("people", "without=bill"),
    ),
    Mutant(
        "anchor-moves",
        "a plan change of the same interval moves the anchor to where it takes effect",
        "R11: the 31st comes back",
        (
            Edit(
                SUBSCRIPTIONS,
                '"anchor": before.anchor if same else starts_on,',
                '"anchor": starts_on,',
            ),
        ),
        needs=("people",),
    ),
    Mutant(
        "billed-after-cancel",
        "a cancelled subscription is billed on",
        "R16; F33",
        (
            Edit(
                BILLING,
                "            \" WHERE state IN ('active', 'past_due') AND next_billing_at <= %s\"\n",
                "            \" WHERE state IN ('active', 'past_due', 'cancelled') AND next_billing_at <= %s\"\n",
            ),
            Edit(
                BILLING,
                "    WHERE s.id = ANY (%s) AND s.state IN ('active', 'past_due') AND",
                "    WHERE s.id = ANY (%s) AND s.state IN ('active', 'past_due', 'cancelled') AND",
            ),
        ),
        needs=("people",),
    ),
    Mutant(
        "past-due-not-billed",
        "a subscription that is past due is billed no further",
        "R16",
        (
            Edit(
                BILLING,
                "            \" WHERE state IN ('active', 'past_due') AND next_billing_at <= %s\"\n",
                "            \" WHERE state IN ('active') AND next_billing_at <= %s\"\n",
            ),
        ),
        needs=("jumps",),
    ),
    Mutant(
        "one-period-only",
        "after days of downtime one period is billed, and the others are skipped",
        "R15: caught up period by period",
        (
            Edit(
                BILLING,
                "      SET next_period_start = i.period_end, next_billing_at = i.next_at\n",
                "      SET next_period_start = i.period_end, next_billing_at =\n"
                "        greatest(i.next_at, (SELECT business FROM moment) + interval '6 days')\n",
            ),
        ),
        needs=("jumps",),
    ),
    Mutant(
        "cent-short",
        "a charge is made over a cent less than the price, and the calendar's count is not asked",
        "R7; DESIGN §6: billing",
        (
            Edit(
                BILLING,
                "        amount=period.price,\n        lane",
                "        amount=period.price - Decimal('0.01'),\n        lane",
            ),
        ),
    ),
    Mutant(
        "billed-unbooked",
        "a charge is billed and nothing is booked as owed",
        "R34; ledger posting missing",
        (
            Edit(
                BILLING,
                "      SELECT n.entry_id, 'billed', n.charge_id, m.business FROM new n, moment m\n",
                "      SELECT n.entry_id, 'billed', n.charge_id, m.business FROM new n, moment m WHERE false\n",
            ),
            Edit(
                BILLING,
                "      FROM new n CROSS JOIN (VALUES ('receivable', 1), ('revenue', -1)) AS side (account, sign)\n",
                "      FROM new n CROSS JOIN (VALUES ('receivable', 1), ('revenue', -1)) AS side (account, sign)\n"
                "      WHERE false\n",
            ),
        ),
    ),
    Mutant(
        "billed-not-dispatched",
        "a bill run commits its charges without their dispatches",
        "F4",
        (
            Edit(
                BILLING,
                "        n.due_payload, n.due_sha256, m.real, m.real\n      FROM new n CROSS JOIN moment m\n",
                "        n.due_payload, n.due_sha256, m.real, m.real\n"
                "      FROM new n CROSS JOIN moment m WHERE n.due_id IS NULL\n",
            ),
        ),
    ),
    Mutant(
        "events-of-a-batch-reordered",
        "the events of one bill run leave in another order than they are numbered",
        "I5; R44",
        (
            Edit(
                BILLING,
                "      ORDER BY 2, 3, 4\n",
                "      ORDER BY 2, 3, 4 DESC\n",
            ),
        ),
        needs=("jumps", "creators=1"),
    ),
    Mutant(
        "cancel-keeps-active",
        "a cancelled subscription stays active",
        "F33",
        (
            Edit(
                SUBSCRIPTIONS,
                "    _close(subscription, SubscriptionState.CANCELLED, now=now)\n",
                "",
            ),
        ),
        needs=("people",),
    ),
    Mutant(
        "key-ignored",
        "a request that is sent again with its key starts another subscription",
        "R49, R51; F2; idempotency key ignored",
        (
            Edit(
                SUBSCRIPTIONS,
                "    subscription_id = Subscription.derive_id(account_id=account_id, idempotency_key=idempotency_key)\n",
                "    subscription_id = Subscription.derive_id(\n"
                "        account_id=account_id, idempotency_key=f'{idempotency_key} {now.real}')\n",
            ),
        ),
    ),
    Mutant(
        "checkout-not-billed",
        "a checkout is accepted and its first period is never billed",
        "I1",
        (
            Edit(
                SUBSCRIPTIONS,
                "    bill([_first_period(creator, terms)], now=now)\n",
                "    _first_period(creator, terms)\n",
            ),
        ),
    ),
    Mutant(
        "key-record-ignored",
        "a request is worked on again though its key has an answer",
        "R49; F2; idempotency key ignored",
        (
            Edit(
                ONCE, "            return bool(cursor.rowcount == 1)\n", "            return True\n"
            ),
        ),
    ),
    Mutant(
        "key-for-another-body",
        "an answered key answers another request too",
        "R49",
        (
            Edit(
                ONCE,
                "    if record.request_sha256 != asked:\n",
                "    if not record.request_sha256:\n",
            ),
        ),
    ),
    Mutant(
        "answer-not-kept",
        "the answer of a key is not stored with the work",
        "R49; F2",
        (
            Edit(
                ONCE,
                "            status=status, body=body\n        )\n",
                '            status=status, body=""\n        )\n',
            ),
        ),
    ),
)
