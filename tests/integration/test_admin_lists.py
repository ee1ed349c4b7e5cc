"""The admin's lists stay quick at any size: an index for every filter, no count over a table (R47)."""

import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.db import connection
from django.db.models import Count, Q, Sum
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from checkout.clock import Clock
from checkout.lists import MOST_COUNTED
from checkout.models import UNCOLLECTED, Attempt, Awaits, Charge, ChargeState
from settlements.models import ProofState

pytestmark = pytest.mark.django_db

CHARGES = 100_000
MANY = """
INSERT INTO checkout_account (id, name, created_at)
  VALUES ('00000000-0000-4000-8000-000000000001', 'Many', now());
INSERT INTO checkout_plan (code, name, price, currency, interval, interval_count)
  VALUES ('weekly', 'Weekly', 4.99, 'USD', 'week', 1);
INSERT INTO checkout_creator
    (id, account_id, external_id, name, email, country, time_zone, event_seq, created_at)
  SELECT md5('creator' || n)::uuid, '00000000-0000-4000-8000-000000000001', 'c-' || n, 'C', 'c@x.test',
         'KZ', 'UTC', 0, now()
    FROM generate_series(1, 1000) n;
INSERT INTO checkout_subscription
    (id, creator_id, state, time_zone, started_at, next_period_start, next_billing_at)
  SELECT md5('subscription' || n)::uuid, md5('creator' || n)::uuid, 'active', 'UTC', now(), '2030-01-01',
         '2030-01-01'
    FROM generate_series(1, 1000) n;
INSERT INTO checkout_subscriptionterms
    (subscription_id, plan_id, price, currency, interval, interval_count, anchor, starts_on, created_at)
  SELECT md5('subscription' || n)::uuid, 'weekly', 4.99, 'USD', 'week', 1, '2026-01-01', '2026-01-01', now()
    FROM generate_series(1, 1000) n;
INSERT INTO checkout_charge
    (id, creator_id, subscription_id, terms_id, period_start, period_end, amount, expected_amount,
     currency, billed_at, created_at, lane, state, round, step, dispatch, void_requested, awaits,
     last_seen_at, sweeps)
  SELECT md5('charge' || n)::uuid, t.creator_id, t.subscription_id, t.id,
         date '2026-01-01' + 7 * (n / 1000), date '2026-01-08' + 7 * (n / 1000), 4.99, 4.99,
         'USD', now(), now() - make_interval(secs => n), CASE n % 100 WHEN 0 THEN 'mena' ELSE 'cis' END,
         CASE WHEN n % 400 = 1 THEN 'exhausted' WHEN n % 400 = 2 THEN 'in_doubt'
              WHEN n % 400 = 3 THEN 'failed_then_retry' WHEN n % 2000 = 4 THEN 'written_off'
              WHEN n % 2000 = 5 THEN 'voided' WHEN n % 100 = 6 THEN 'due'
              WHEN n % 1000 = 7 THEN 'pending' ELSE 'succeeded' END,
         1, 0, 1, false, CASE WHEN n % 400 = 1 THEN 'person' ELSE '' END, now(), 0
    FROM generate_series(0, %(charges)s - 1) n
    JOIN (SELECT s.id AS subscription_id, s.creator_id, terms.id,
                 row_number() OVER (ORDER BY s.id) - 1 AS number
            FROM checkout_subscription s
            JOIN checkout_subscriptionterms terms ON terms.subscription_id = s.id) t
      ON t.number = n %% 1000;
INSERT INTO checkout_instrument (id, creator_id, token, created_at, dead_reason)
  SELECT md5('instrument' || n)::uuid, md5('creator' || n)::uuid, 'tok_' || n, now(), ''
    FROM generate_series(1, 1000) n;
INSERT INTO checkout_attempt
    (id, charge_id, creator_id, instrument_id, kind, lane, round, number, sends, amount, currency,
     outcome, verdict, decline_class, decline_code, doubt, captured_amount, captured_currency,
     processor_reference, started_at, last_sent_at, ended_at, booked_at, queries, not_found)
  SELECT md5('attempt' || c.id)::uuid, c.id, c.creator_id, i.id, 'off_session', c.lane, 1, 1, 1, 4.99,
         'USD', CASE c.state WHEN 'succeeded' THEN 'captured' WHEN 'in_doubt' THEN 'open'
                ELSE 'declined' END, '',
         CASE WHEN c.state IN ('succeeded', 'in_doubt') THEN '' ELSE 'funds' END,
         CASE WHEN c.state IN ('succeeded', 'in_doubt') THEN '' ELSE 'insufficient_funds' END, '',
         CASE c.state WHEN 'succeeded' THEN 4.99 END,
         CASE c.state WHEN 'succeeded' THEN 'USD' ELSE '' END, '', c.created_at, c.created_at,
         CASE c.state WHEN 'in_doubt' THEN NULL ELSE c.created_at END,
         CASE c.state WHEN 'in_doubt' THEN NULL ELSE c.created_at END, 0, 0
    FROM checkout_charge c JOIN checkout_instrument i ON i.creator_id = c.creator_id
   WHERE c.state <> 'due';
INSERT INTO checkout_outboxmessage
    (event_id, door, key, event_seq, type, subject, payload, payload_sha256, created_at, available_at)
  SELECT md5('message' || c.id)::uuid, 'kafka', c.creator_id,
         row_number() OVER (PARTITION BY c.creator_id ORDER BY c.id), 'charge.billed', c.id, '{}', '',
         c.created_at, c.created_at
    FROM checkout_charge c;
WITH published AS (
  INSERT INTO checkout_publishedmessage (message_id, door, published_at)
  SELECT m.id, m.door, m.created_at FROM checkout_outboxmessage m
  JOIN checkout_charge c ON c.id = m.subject WHERE c.state <> 'due'
  RETURNING message_id
)
DELETE FROM checkout_pendingmessage p USING published WHERE p.message_id = published.message_id;
WITH file AS (
  INSERT INTO settlements_statementimport
    (processor, lane, file_name, sha256, first_day, last_day, opening, closing, movement, line_count,
     state, reason, imported_by, imported_at, accepted_at)
  VALUES ('sandbox', 'cis', 'f.csv', 'f', current_date - 1, current_date - 1, 0, 0, 0, 0, 'accepted', '',
          'ann', now(), now())
  RETURNING id
)
INSERT INTO settlements_statementexpectation (lane, day, time_zone, due_at, state, statement_id)
  SELECT 'cis', current_date - 1, 'UTC', now(), 'arrived', id FROM file;
ANALYZE checkout_account, checkout_creator, checkout_subscription, checkout_subscriptionterms,
  checkout_charge, checkout_instrument, checkout_attempt, checkout_outboxmessage,
  checkout_pendingmessage, checkout_publishedmessage;
"""
THIS_MONTH = f"{Clock().business_now():%Y-%m}"
LARGE = ("checkout_charge", "checkout_attempt", "checkout_outboxmessage")


@pytest.fixture
def many_charges() -> None:
    """100 000 charges with attempts and messages, by SQL: about plans, not how a charge comes to be."""
    with connection.cursor() as cursor:
        for table in LARGE:
            # Rolled back with the test; the marks of reconciliation would take most of the time.
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        cursor.execute(MANY.replace("%%", "%").replace("%(charges)s", str(CHARGES)))


def queries_of(client: Client, url: str) -> list[str]:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        answer = client.get(url)
    assert answer.status_code == 200, url
    every = [query["sql"] for query in captured.captured_queries]
    # An estimate asks for a plan alone.
    return [sql for sql in every if not sql.startswith("EXPLAIN")]


def plan_of(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + sql)
        return "\n".join(row[0] for row in cursor.fetchall())


def assert_indexed(sql: str, *, asked: object) -> None:
    """The query reads none of the large tables from end to end, and counts and sorts out nothing."""
    plan = plan_of(sql)
    for table in LARGE:
        assert f"Seq Scan on {table} " not in plan, f"{asked}\n{sql}\n{plan}"
    assert "DISTINCT" not in sql


def test_r47_at_100_000_charges_every_page_reads_by_index(
    many_charges: None, admin_client: Client
) -> None:
    """One test for all, since the rows take their time."""
    every_filter_and_search_uses_an_index(admin_client)
    a_scrape_and_a_proof_read_by_index_too(admin_client)
    the_lists_behind_home_read_by_index_too(admin_client)
    a_long_list_says_more_than_instead_of_counting(admin_client)
    a_long_list_of_charges_prints_what_is_kept_of_it(admin_client)
    a_month_and_a_class_are_read_along_an_index_of_their_own(admin_client)
    a_column_sorts_what_is_few_and_nothing_else(admin_client)


def every_filter_and_search_uses_an_index(admin_client: Client) -> None:
    charge = Charge.objects.select_related("creator").order_by("id")[500]
    attempt = charge.attempts.first() or Attempt.objects.order_by("id")[0]
    ids = [str(charge.pk), str(charge.creator_id), str(charge.subscription_id), str(attempt.pk)]
    searches = [{"q": term} for term in (*ids, charge.creator.external_id, "no such creator")]
    asked: dict[str, list[dict[str, str]]] = {
        "charge": [
            {},
            {"p": "3"},
            *({"state__exact": state} for state in ChargeState.values),
            *({"lane": lane} for lane in ("cis", "mena", "africa")),
            *({"awaits": value} for value in Awaits.values if value),
            {"state__exact": "due", "lane": "mena"},
            *searches,
        ],
        "attempt": [{}, {"outcome": "open"}, *searches],
        "outboxmessage": [
            {},
            {"door__exact": "kafka"},
            *(
                {"waiting": f"{door}{how}"}
                for door in ("sqs", "kafka")
                for how in ("", "-later", "-parked")
            ),
            *searches,
        ],
    }
    seen = 0
    for name, parameters in asked.items():
        table = f'FROM "checkout_{name}"'
        for parameter in parameters:
            url = f"/admin/checkout/{name}/?{urlencode(parameter)}"
            for sql in queries_of(admin_client, url):
                if 'FROM "checkout_' not in sql:
                    continue
                assert_indexed(sql, asked=(name, parameter))
                seen += table in sql
                # The only count is over a LIMIT along the index.
                assert "COUNT" not in sql or re.search(r"LIMIT 2001\) subquery$", sql), sql
    assert seen > 60


def a_scrape_and_a_proof_read_by_index_too(admin_client: Client) -> None:
    charge = Charge.objects.filter(state=ChargeState.SUCCEEDED).order_by("id")[500]
    for url in ("/metrics", reverse("charge_proof", args=[charge.pk])):
        for sql in queries_of(admin_client, url):
            if sql.lstrip().startswith("SELECT") and "checkout_" in sql:
                assert_indexed(sql, asked=url)


def the_lists_behind_home_read_by_index_too(admin_client: Client) -> None:
    today = Clock().real_now().date()
    days = f"{today - timedelta(days=2)}..{today}"
    asked: list[dict[str, str]] = [
        {},
        *({"proof": proof} for proof in ProofState.values),
        *({"proof": proof, "days": days} for proof in ProofState.values),
        {"proof": "awaiting", "days": f"{today}..{today}", "lane": "cis"},
        {"days": f"{today.replace(day=1)}..{today}"},
        {"days": f"{today.replace(day=1)}..{today}", "file": "no"},
    ]
    for parameter in asked:
        url = f"/admin/settlements/capture/?{urlencode(parameter)}"
        for sql in queries_of(admin_client, url):
            if '"checkout_attempt"' in sql:
                assert_indexed(sql, asked=parameter)
                assert "COUNT" not in sql or re.search(r"LIMIT 2001\) subquery$", sql), sql


def a_long_list_says_more_than_instead_of_counting(admin_client: Client) -> None:
    page = admin_client.get("/admin/checkout/attempt/").content.decode()

    assert "more than 2000 attempts" in page
    assert re.search(r"more than 2,000 attempts, ≈ \d{1,3}(,\d{3})+<", page)
    assert "USD</strong>" not in page


def a_long_list_of_charges_prints_what_is_kept_of_it(admin_client: Client) -> None:
    """R48: home's and the month's figures lead to lists that say the same count and USD."""
    with connection.cursor() as cursor:  # the rows were made past the triggers that keep the sums
        cursor.execute(
            "INSERT INTO checkout_chargetally (day, lane, state, count, usd, is_folded)"
            " SELECT period_start, lane, state, count(*), sum(amount), true FROM checkout_charge"
            " GROUP BY 1, 2, 3"
        )
    today = Clock().business_now().date()
    oldest = Charge.objects.order_by("period_start").values_list("period_start", flat=True)[0]
    succeeded = Q(state=ChargeState.SUCCEEDED)
    lane = Charge.objects.values_list("lane", flat=True)[0]
    asked = {
        "": Q(),
        "p=2": Q(),
        "state__exact=succeeded": succeeded,
        f"state__exact=succeeded&lane={lane}": succeeded & Q(lane=lane),
        f"month={oldest:%Y-%m}": Q(
            period_start__year=oldest.year, period_start__month=oldest.month
        ),
        "became=succeeded": succeeded,
        "uncollected=over-90": Q(
            state__in=UNCOLLECTED, period_start__lte=today - timedelta(days=91)
        ),
    }
    longer = 0
    for url, wanted in asked.items():
        page = admin_client.get(f"/admin/checkout/charge/?{url}").content.decode()
        found = Charge.objects.filter(wanted).aggregate(count=Count("pk"), usd=Sum("amount"))
        longer += found["count"] > MOST_COUNTED
        assert f"{found['count']} charges" in page or f"{found['count']:,} charges" in page, url
        assert f"{found['usd'] or 0:,.2f}" in page, url
    assert longer > 3


def a_month_and_a_class_are_read_along_an_index_of_their_own(admin_client: Client) -> None:
    """Else what was asked for lies behind all that came since, or is sorted out of a whole month."""
    own = {
        "charge/?month=2026-03": "charge_billed",
        "charge/?uncollected=over-90": "charge_uncollected",
        f"attempt/?outcome=captured&booked={THIS_MONTH}": "attempt_booked",
        f"attempt/?decline=funds&booked={THIS_MONTH}": "attempt_declined",
        "attempt/?decline=never": "attempt_declined",
        f"attempt/?decline=funds&booked={THIS_MONTH}&first=yes": "attempt_declined",
        f"attempt/?decline=funds&booked={THIS_MONTH}&first=collected": "attempt_declined",
        f"attempt/?decline=funds&days={THIS_MONTH}-01..{THIS_MONTH}-07": "attempt_declined",
        "charge/?billed=2026-03-05": "charge_billed",
        "charge/?billed=2026-03-05&became=succeeded": "charge_billed",
    }
    for address, index in own.items():
        table = f'FROM "checkout_{address.partition("/")[0]}"'
        asked = queries_of(admin_client, f"/admin/checkout/{address}")
        [counted] = [sql for sql in asked if "LIMIT 2001" in sql and table in sql]
        plan = plan_of(counted)
        assert index in plan, f"{address}\n{plan}"
        assert f"Seq Scan on checkout_{address.partition('/')[0]}" not in plan, plan
    [recovery] = [
        sql for sql in queries_of(admin_client, reverse("month")) if "decline_class = ANY" in sql
    ]
    plan = plan_of(recovery)
    assert "attempt_declined" in plan, plan
    assert "Seq Scan on checkout_attempt" not in plan, plan


def a_column_sorts_what_is_few_and_nothing_else(admin_client: Client) -> None:
    """Django heeds `?o=` of an address whatever it offers; by amount there is no index."""
    by_amount = 'ORDER BY "checkout_charge"."amount" DESC'
    few = "/admin/checkout/charge/?state__exact=in_doubt&o=-6"
    assert any(by_amount in sql for sql in queries_of(admin_client, few))

    many = queries_of(admin_client, "/admin/checkout/charge/?o=-6")
    assert not any(by_amount in sql for sql in many)
    # Neither by a column that is offered nowhere.
    assert not any(
        'ORDER BY "checkout_charge"."lane"' in sql
        for sql in queries_of(admin_client, "/admin/checkout/charge/?o=7")
    )
    page = admin_client.get("/admin/checkout/charge/?o=-6").content.decode()
    assert "More than 2,000 rows are not sorted" in page


def test_r47_no_list_of_ours_counts_everything_or_asks_for_distinct_values(
    admin_client: Client,
) -> None:
    for model, desk in admin.site._registry.items():
        if model._meta.app_label not in {"checkout", "settlements"}:
            continue
        url = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        for sql in queries_of(admin_client, url):
            assert "DISTINCT" not in sql, url
            assert "COUNT" not in sql or "LIMIT 2001" in sql, f"{url}: {sql}"
        assert desk.ordering, f"{url} states no order"
        assert desk.show_facets is admin.ShowFacets.NEVER


LOGGED = """
INSERT INTO auth_user (username, password, is_superuser, is_staff, is_active, first_name, last_name,
                       email, date_joined)
  SELECT 'person-' || n, '', false, true, true, '', '', '', now() FROM generate_series(0, 5) n;
INSERT INTO django_admin_log
    (action_time, user_id, content_type_id, object_id, object_repr, action_flag, change_message)
  SELECT now() - make_interval(mins => 20 * (100000 - n)), u.id, c.id, md5('row' || n)::uuid::text,
         'row ' || n, 2, 'why'
    FROM generate_series(1, 100000) n
    -- One of a thousand each by somebody who seldom decides, and about what is seldom decided.
    JOIN auth_user u ON u.username = 'person-' || CASE WHEN n % 1000 = 7 THEN 5 ELSE n % 5 END
    JOIN django_content_type c ON (c.app_label, c.model)
      = ('checkout', CASE WHEN n % 1000 = 9 THEN 'hold' ELSE 'charge' END);
ANALYZE auth_user, django_admin_log;
"""


def test_r47_the_audit_trail_is_filtered_and_searched_by_index(admin_client: Client) -> None:
    """100 000 decisions of four years: none is read from end to end, by whom, about what or when."""
    with connection.cursor() as cursor:
        cursor.execute(LOGGED)
    before = f"{Clock().real_now() - timedelta(days=900):%Y-%m}"
    asked = [
        {},
        {"who": "person-1"},
        {"who": "person-5"},
        {"who": "admin"},
        {"about": "checkout.charge"},
        {"about": "checkout.hold"},
        {"about": "checkout.plan"},
        {"month": THIS_MONTH},
        {"month": before},
        {"month": before, "who": "person-5", "about": "checkout.hold"},
        {"q": "no such id"},
    ]
    seen = 0
    for parameter in asked:
        for sql in queries_of(admin_client, f"/admin/admin/logentry/?{urlencode(parameter)}"):
            if 'FROM "django_admin_log"' not in sql:
                continue
            plan = plan_of(f"(ANALYZE) {sql}")
            assert "Seq Scan on django_admin_log" not in plan, f"{parameter}\n{sql}\n{plan}"
            # Nor all of it backwards along its key, for the few that are asked for.
            passed = sum(map(int, re.findall(r"Rows Removed by Filter: (\d+)", plan)))
            assert passed < CHARGES / 5, f"{parameter}\n{sql}\n{plan}"
            assert "COUNT" not in sql or re.search(r"LIMIT 2001\) subquery$", sql), sql
            seen += 1
    assert seen >= len(asked)


def test_the_audit_trail_lists_what_its_filters_name(admin_client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute(LOGGED)

    def head(**parameters: str) -> str:
        page = admin_client.get("/admin/admin/logentry/", parameters).content.decode()
        return re.sub(r"\s+", " ", page)

    assert "<strong>100 log entries</strong>" in head(who="person-5")
    assert "person: person-5" in head(who="person-5")
    assert "<strong>100 log entries</strong>" in head(about="checkout.hold")
    assert "<strong>0 log entries</strong>" in head(about="checkout.hold", who="person-5")
    assert "<strong>0 log entries</strong>" in head(who="nobody such")
    assert "<strong>0 log entries</strong>" in head(about="nonsense")
    assert "month (UTC): 2020-01" in head(month="2020-01")
    assert "<strong>0 log entries</strong>" in head(month="2020-01")
