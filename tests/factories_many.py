"""Many charges at once, by SQL: each billed, captured, booked and published, all of one day.

For tests about many, not about how one charge comes to be (tests/factories.py): it writes the rows that the
service would have written, one INSERT … SELECT a table, past every trigger but those that fire always.
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from django.db import connection, transaction

from tests.factories import ACCOUNT_ID, account, plan
from tests.fakes import FakeClock

PRICE: Final = Decimal("19.99")
_PLAN: Final = "many-monthly"


def many_captures(*, lanes: Mapping[str, int], first: datetime, clock: FakeClock) -> None:
    """So many creators of each lane, with one charge each, captured a second apart from `first` on.

    `first` is of the business clock, UTC, and its day is the first billing date; the real clock is as far
    from it as `clock` says. Nothing about them disagrees.
    """
    account(clock=clock)
    plan(code=_PLAN, price=str(PRICE))
    apart = clock.business_now() - clock.real_now()
    for lane, count in lanes.items():
        values: dict[str, Any] = {
            "lane": lane,
            "count": count,
            "account": ACCOUNT_ID,
            "plan": _PLAN,
            "price": PRICE,
            "day": first.date(),
            "after": _month_after(first.date()),
            "first": first,
            "apart": apart,
        }
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            for statement in _MANY.split(";\n"):
                cursor.execute(statement, values)
            cursor.execute("SET LOCAL session_replication_role = origin")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _month_after(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, day.day)


_MANY: Final = """
CREATE TEMPORARY TABLE many ON COMMIT DROP AS
SELECT n, %(lane)s || '-' || n AS name, md5('creator' || %(lane)s || n)::uuid AS creator,
       md5('subscription' || %(lane)s || n)::uuid AS subscription,
       md5('instrument' || %(lane)s || n)::uuid AS instrument,
       md5('charge' || %(lane)s || n)::uuid AS charge, md5('attempt' || %(lane)s || n)::uuid AS attempt,
       md5('billed' || %(lane)s || n)::uuid AS billed, md5('booked' || %(lane)s || n)::uuid AS booked,
       md5('event' || %(lane)s || n)::uuid AS event,
       %(first)s + n * interval '1 second' AS booked_at,
       %(first)s + n * interval '1 second' - %(apart)s AS at
FROM generate_series(1, %(count)s) n;
INSERT INTO checkout_creator
  (id, account_id, external_id, name, email, country, time_zone, event_seq, created_at)
SELECT creator, %(account)s, name, 'Many', 'many@example.org', 'KZ', 'UTC', 1, at FROM many;
INSERT INTO checkout_instrument (id, creator_id, token, created_at, dead_reason)
SELECT instrument, creator, 'tok_approve', at, '' FROM many;
INSERT INTO checkout_subscription
  (id, creator_id, state, time_zone, started_at, next_period_start, next_billing_at)
SELECT subscription, creator, 'active', 'UTC', booked_at, %(after)s,
       %(after)s::date::timestamp AT TIME ZONE 'UTC' FROM many;
INSERT INTO checkout_subscriptionterms
  (subscription_id, plan_id, price, currency, interval, interval_count, anchor, starts_on, created_at)
SELECT subscription, %(plan)s, %(price)s, 'USD', 'month', 1, %(day)s, %(day)s, at FROM many;
INSERT INTO checkout_charge
  (id, creator_id, subscription_id, terms_id, period_start, period_end, amount, expected_amount, currency,
   billed_at, created_at, lane, state, round, step, dispatch, void_requested, awaits, last_seen_at, sweeps)
SELECT charge, creator, subscription, t.id, %(day)s, %(after)s, %(price)s, %(price)s, 'USD', booked_at, at,
       %(lane)s, 'succeeded', 1, 0, 1, false, '', at, 0
FROM many JOIN checkout_subscriptionterms t ON t.subscription_id = many.subscription;
INSERT INTO checkout_attempt
  (id, charge_id, creator_id, instrument_id, kind, lane, round, number, sends, amount, currency, outcome,
   verdict, decline_class, decline_code, doubt, captured_amount, captured_currency, processor_reference,
   started_at, last_sent_at, ended_at, booked_at, queries, not_found)
SELECT attempt, charge, creator, instrument, 'off_session', %(lane)s, 1, 1, 1, %(price)s, 'USD', 'captured',
       '', '', '', '', %(price)s, 'USD', 'sbx_' || name, at, at, at, booked_at, 0, 0 FROM many;
INSERT INTO checkout_ledgerentry (id, kind, charge_id, attempt_id, posted_at)
SELECT billed, 'billed', charge, NULL, booked_at FROM many
UNION ALL SELECT booked, 'captured', charge, attempt, booked_at FROM many;
INSERT INTO checkout_ledgerposting (entry_id, account, lane, creator_id, charge_id, amount)
SELECT x.entry, x.account, x.lane, creator, charge, x.amount
FROM many CROSS JOIN LATERAL (VALUES
  (billed, 'receivable', '', %(price)s::numeric), (billed, 'revenue', '', -%(price)s::numeric),
  (booked, 'clearing', %(lane)s, %(price)s), (booked, 'receivable', '', -%(price)s)
) AS x(entry, account, lane, amount);
INSERT INTO checkout_outboxmessage
  (event_id, door, key, event_seq, type, subject, payload, payload_sha256, created_at, available_at)
SELECT event, 'kafka', creator, 1, 'charge.succeeded', charge, '{}',
       encode(sha256(convert_to('{}', 'UTF8')), 'hex'), at, at FROM many;
WITH published AS (
  INSERT INTO checkout_publishedmessage (message_id, door, published_at, seen_at)
  SELECT m.id, m.door, m.created_at, m.created_at FROM many
  JOIN checkout_outboxmessage m ON m.event_id = many.event RETURNING message_id
)
DELETE FROM checkout_pendingmessage p USING published WHERE p.message_id = published.message_id
"""
