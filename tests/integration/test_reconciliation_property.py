"""R55: the incremental passes find what a full one finds, for any history.

A history is any mixture of legitimate use, silent edits of every table that matters, statement files
with missing, doubled, short and foreign lines, files that are deleted and imported again, matches by
hand made and taken apart, time passing on both clocks, a business clock that jumps, and passes in
between. Wherever both look, in either order, and at the end, the one that comes second must open
nothing and clear nothing.
"""

import random
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ObjectDoesNotExist
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from checkout import billing, rescue, subscriptions
from checkout.gateways import Approved, DeclineClass, Declined, InDoubt
from checkout.models import Attempt, Charge, OutboxMessage
from checkout.routing import NoLane
from checkout.subscriptions import NoTerms
from settlements import matching, reconciliation
from settlements.formats.lines import Refused
from settlements.models import (
    Discrepancy,
    FeeTerms,
    Proposal,
    ReconcileDirty,
    StatementImport,
    StatementLine,
    Way,
)
from settlements.resolving import NotDecidable
from tests.factories import LANE, World, plan
from tests.factories_settlements import edit, statement_text, take_in

pytestmark = pytest.mark.django_db

# Each is a statement a person with a superuser's password could type; {} is the row's id.
EDITS = (
    "UPDATE checkout_charge SET amount = amount - 0.03 WHERE id = {charge}",
    "UPDATE checkout_charge SET amount = 19.99, expected_amount = 19.99 WHERE id = {charge}",
    "UPDATE checkout_charge SET expected_amount = expected_amount + 1 WHERE id = {charge}",
    "UPDATE checkout_charge SET state = 'failed_then_retry' WHERE id = {charge}",
    "UPDATE checkout_charge SET state = 'succeeded' WHERE id = {charge}",
    "UPDATE checkout_charge SET state = 'voided' WHERE id = {charge}",
    "UPDATE checkout_charge SET period_end = period_end + 1 WHERE id = {charge}",
    "UPDATE checkout_charge SET period_start = period_start - 1 WHERE id = {charge}",
    "UPDATE checkout_charge SET creator_id = (SELECT creator_id FROM checkout_charge"
    " ORDER BY terms_id DESC LIMIT 1)"
    " WHERE id = {charge}",
    "DELETE FROM checkout_charge WHERE id = {charge}",
    "UPDATE checkout_charge SET terms_id = (SELECT max(terms_id) FROM checkout_charge)"
    " WHERE id = {charge}",
    "UPDATE checkout_charge SET period_start = period_start - 3, subscription_id = (SELECT"
    " subscription_id FROM checkout_charge ORDER BY terms_id DESC LIMIT 1) WHERE id = {charge}",
    "INSERT INTO checkout_charge SELECT (jsonb_populate_record(c, jsonb_build_object("
    "'id', md5(c.id::text)::uuid, 'period_start', c.period_start - 7))).* FROM checkout_charge c"
    " WHERE id = {charge} ON CONFLICT DO NOTHING",
    "UPDATE checkout_attempt SET creator_id = (SELECT creator_id FROM checkout_charge"
    " ORDER BY terms_id DESC LIMIT 1) WHERE id = {attempt}",
    "UPDATE checkout_attempt SET captured_amount = captured_amount + 0.01 WHERE id = {attempt}",
    "UPDATE checkout_attempt SET outcome = 'unapplied' WHERE id = {attempt}"
    " AND outcome = 'captured'",
    "UPDATE checkout_attempt SET outcome = 'declined', captured_amount = NULL,"
    " captured_currency = '' WHERE id = {attempt}",
    "UPDATE checkout_attempt SET lane = 'mena' WHERE id = {attempt}",
    "UPDATE checkout_attempt SET booked_at = booked_at - interval '1 day' WHERE id = {attempt}",
    "UPDATE checkout_attempt SET charge_id = (SELECT id FROM checkout_charge ORDER BY"
    " terms_id DESC, period_start LIMIT 1), round = 30000 + round WHERE id = {attempt} AND outcome = 'declined'",
    "DELETE FROM checkout_attempt WHERE id = {attempt}",
    "UPDATE checkout_ledgerposting SET amount = amount + 0.01 WHERE charge_id = {charge}",
    "UPDATE checkout_ledgerposting SET charge_id = {charge} WHERE id = (SELECT min(id) FROM"
    " checkout_ledgerposting)",
    "DELETE FROM checkout_ledgerposting WHERE charge_id = {charge} AND account = 'clearing'",
    "UPDATE checkout_ledgerentry SET charge_id = {charge} WHERE kind = 'captured' AND id ="
    " (SELECT entry_id FROM checkout_ledgerposting WHERE account = 'clearing' ORDER BY id LIMIT 1)",
    "DELETE FROM checkout_ledgerentry WHERE charge_id = {charge}",
    "UPDATE checkout_subscription SET next_period_start = next_period_start + 31 WHERE id = {sub}",
    "UPDATE checkout_subscription SET next_billing_at = next_billing_at + interval '1 hour'"
    " WHERE id = {sub}",
    "UPDATE checkout_subscription SET next_billing_at = next_billing_at + interval '9 days'"
    " WHERE id = {sub}",
    "UPDATE checkout_subscription SET state = 'active', closed_at = NULL WHERE id = {sub}",
    "UPDATE checkout_subscription SET state = 'cancelled', closed_at = next_billing_at"
    " - interval '40 days' WHERE id = {sub}",
    "UPDATE checkout_subscription SET time_zone = 'Asia/Almaty' WHERE id = {sub}",
    "UPDATE checkout_subscription SET creator_id = (SELECT creator_id FROM checkout_charge"
    " ORDER BY terms_id LIMIT 1) WHERE id = {sub}",
    "UPDATE checkout_subscriptionterms SET price = price - 0.03 WHERE subscription_id = {sub}",
    "UPDATE checkout_subscriptionterms SET anchor = anchor - 1 WHERE subscription_id = {sub}",
    "DELETE FROM checkout_subscriptionterms WHERE subscription_id = {sub}",
    "UPDATE checkout_outboxmessage SET payload = payload || ' ' WHERE id = {message}",
    "UPDATE checkout_outboxmessage SET event_seq = event_seq + 100 WHERE id = {message}"
    " AND door = 'kafka'",
    "UPDATE checkout_plan SET interval_count = interval_count + 1 WHERE code = (SELECT plan_id FROM"
    " checkout_subscriptionterms WHERE subscription_id = {sub} LIMIT 1)",
    "UPDATE checkout_outboxmessage SET subject = {sub} WHERE id = {message} AND door = 'kafka'",
    "UPDATE checkout_outboxmessage SET type = 'subscription.plan_changed' WHERE id = {message}"
    " AND type = 'subscription.started'",
    "DELETE FROM checkout_outboxmessage WHERE id = {message}",
    "UPDATE checkout_creator SET event_seq = event_seq + 1",
    "UPDATE settlements_statementline SET gross = gross - 0.01, net = net - 0.01 WHERE id = {line}",
    "UPDATE settlements_statementline SET key = {attempt} WHERE id = {line}",
    "DELETE FROM settlements_statementline WHERE id = {line}",
    "INSERT INTO settlements_statementline (statement_id, number, key, line_id, type, reference,"
    " processor_reference, booked_at, gross, fee, net, currency, payout) SELECT statement_id,"
    " number + 100000, key, line_id, type, reference, processor_reference, booked_at, gross, fee, net,"
    " currency, payout FROM settlements_statementline l WHERE id = {line} AND NOT EXISTS (SELECT 1"
    " FROM settlements_statementline t WHERE t.statement_id = l.statement_id"
    " AND t.number = l.number + 100000)",
    "UPDATE checkout_attempt SET amount = amount - 0.01 WHERE id = {attempt}",
    "UPDATE settlements_statementimport SET opening = opening + 0.01, closing = closing + 0.01",
    "UPDATE settlements_statementimport SET state = 'quarantined', reason = 'by hand',"
    " accepted_at = NULL",
    "UPDATE settlements_statementexpectation SET state = 'expected', statement_id = NULL",
    "DELETE FROM settlements_statementexpectation",
    "UPDATE settlements_discrepancy SET cleared_at = now(), cleared_because = 'evidence'"
    " WHERE cleared_at IS NULL",
    "UPDATE settlements_matchedline SET gross = gross - 0.01",
    "UPDATE settlements_matchedattempt SET in_force = false",
    "DELETE FROM settlements_matchedattempt",
    "UPDATE settlements_proposal SET decision = 'refused'",
)

FAULTY_FILES = (
    "true",
    "without a line",
    "a line twice",
    "a line short",
    "a foreign line",
    "a line of nobody",
)

# So that there is something to edit, in every history.
BEGINNING = (
    ("subscribe", "19.99"),
    ("subscribe", "4.99"),
    ("receive", "approve"),
    ("receive", "approve"),
    ("pass", ""),
)
# And so that there is a match by hand.
MATCHED = (
    *BEGINNING,
    ("hours pass", 30),
    ("file", "a line of nobody"),
    ("pass", ""),
    ("match", ""),
)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("subscribe"), st.sampled_from(["19.99", "4.99"])),
        st.tuples(
            st.just("receive"),
            st.sampled_from(["approve", "short", "decline", "soft", "doubt"]),
        ),
        st.tuples(st.just("bill"), st.just("")),
        st.tuples(st.just("resolve"), st.just("")),
        st.tuples(st.just("cancel"), st.just("")),
        st.tuples(st.just("change plan"), st.just("")),
        st.tuples(st.just("fee terms"), st.just("")),
        st.tuples(st.just("edit"), st.sampled_from(EDITS)),
        st.tuples(st.just("edit"), st.sampled_from(EDITS)),
        st.tuples(st.just("file"), st.sampled_from(FAULTY_FILES)),
        st.tuples(st.just("match"), st.just("")),
        st.tuples(st.just("take apart"), st.just("")),
        st.tuples(st.just("hours pass"), st.sampled_from([1, 7, 30, 24 * 32])),
        st.tuples(st.just("the clock jumps"), st.sampled_from([1, 31])),
        st.tuples(st.just("file is lost"), st.just("")),
        st.tuples(st.just("pass"), st.just("")),
        st.tuples(st.just("both"), st.sampled_from(["the full one first", "the full one last"])),
    ),
    min_size=4,
    max_size=24,
)


def block() -> transaction.Atomic:
    """A transaction that stands for the test's own, so that durable ones may run inside."""
    atomic = transaction.atomic()
    atomic._from_testcase = True  # type: ignore[attr-defined]
    return atomic


class History:
    """Plays the steps; anything a step needs and does not find makes it do nothing."""

    def __init__(self, folder: Any, seed: int) -> None:
        self.world = World()
        self.folder = folder
        self.random = random.Random(seed)
        self.covered = date(2026, 1, 31)

    def play(self, step: str, detail: Any) -> None:
        act = getattr(self, step.replace(" ", "_") if step != "pass" else "look_again")
        if step == "both":
            act(detail)  # in no block: what it asserts must get out
            return
        # A step that the service refuses in this state is a step that did not happen.
        with (
            suppress(
                IntegrityError,
                billing.OffCalendar,
                NoLane,
                NoTerms,
                Refused,
                ObjectDoesNotExist,
                matching.NotMatchable,
                NotDecidable,
            ),
            block(),
        ):
            act(detail)

    def one(self, rows: Any) -> Any:
        """Any of the rows, by the order they were made in: ids differ from run to run."""
        order = {
            Charge: ("terms_id", "period_start", "pk"),
            Attempt: ("charge__terms_id", "charge__period_start", "round", "number"),
        }
        ids = list(rows.order_by(*order.get(rows.model, ("pk",))).values_list("pk", flat=True))
        return self.random.choice(ids) if ids else None

    def subscribe(self, price: str) -> None:
        self.world.due_charge(price=price)

    def receive(self, answer: str) -> None:
        charge_id = self.one(Charge.objects.filter(state__in=["due", "failed_then_retry"]))
        if charge_id is None:
            return
        answers: dict[str, list[Any]] = {
            "approve": [],
            "short": [lambda r: Approved(r.amount - Decimal("0.03"), "USD", "short")],
            "decline": [Declined(DeclineClass.NEVER, "stolen_card")],
            "soft": [Declined(DeclineClass.ISSUER_SOFT, "do_not_honor")],
            "doubt": [InDoubt("time-out")],
        }
        self.world.gateway.answers = answers[answer]
        charge = Charge.objects.get(pk=charge_id)
        with suppress(LookupError, AttributeError, ValueError):
            self.world.receive(charge)

    def bill(self, _: str) -> None:
        billing.bill_due(clock=self.world.clock, ages=self.world.ages)

    def resolve(self, _: str) -> None:
        world = self.world
        rescue.resolve(clock=world.clock, gateways=world.gateways, ages=world.ages)

    def cancel(self, _: str) -> None:
        charge_id = self.one(Charge.objects.filter(subscription__state="active"))
        if charge_id:
            subscriptions.cancel(
                subscription_id=Charge.objects.get(pk=charge_id).subscription_id,
                by="test",
                reason="",
                now=self.world.clock.now(),
            )

    def change_plan(self, _: str) -> None:
        charge_id = self.one(Charge.objects.filter(subscription__state="active"))
        if charge_id:
            subscriptions.change_plan(
                subscription_id=Charge.objects.get(pk=charge_id).subscription_id,
                plan_code=plan("better", "29.99").code,
                now=self.world.clock.now(),
            )

    def fee_terms(self, _: str) -> None:
        FeeTerms.objects.create(
            lane=LANE,
            valid_from=self.world.clock.business_now().date(),
            rate=Decimal("0.03"),
            fixed=Decimal("0.30"),
        )

    def edit(self, sql: str) -> None:
        ids = {
            "charge": self.one(Charge.objects.all()),
            "attempt": self.one(Attempt.objects.all()),
            "sub": self.one(Charge.objects.all()),
            "message": self.one(OutboxMessage.objects.all()),
            "line": self.one(StatementLine.objects.all()),
        }
        if ids["sub"]:
            ids["sub"] = Charge.objects.get(pk=ids["sub"]).subscription_id
        if all(ids[name] is not None for name in ids if f"{{{name}}}" in sql):
            note(sql.format(**{name: f"'{value}'" for name, value in ids.items()}))
            edit(sql.format(**{name: f"'{value}'" for name, value in ids.items()}))

    def file(self, fault: str) -> None:
        last = self.world.clock.business_now().date() - timedelta(days=1)
        if last < self.covered:
            return
        text = statement_text(self.covered, last)
        self.covered = last + timedelta(days=1)
        take_in(self.faulty(text, fault), world=self.world, folder=self.folder)

    def file_is_lost(self, _: str) -> None:
        """The newest file is deleted with its lines, and is imported again by the next file."""
        newest = StatementImport.objects.order_by("-last_day", "-id").first()
        if newest is None:
            return
        edit("DELETE FROM settlements_statementline WHERE statement_id = %s", newest.pk)
        edit(
            "UPDATE settlements_statementexpectation SET state = 'expected', statement_id = NULL"
            " WHERE statement_id = %s",
            newest.pk,
        )
        edit("DELETE FROM settlements_statementimport WHERE id = %s", newest.pk)
        self.covered = newest.first_day

    def both(self, order: str) -> None:
        """The one that looks second finds what the first one found, and nothing else."""
        looks = [self.look_again, self.look_at_all]
        first, second = looks if order == "the full one last" else reversed(looks)
        first()
        found = standing()
        second()
        assert found == standing()

    def faulty(self, text: str, fault: str) -> str:
        header, opening, *rows, closing = text.splitlines()
        charges = [row for row in rows if ",charge," in row]
        if charges and fault != "true":
            row = self.random.choice(charges)
            fields = row.split(",")
            short = [*fields[:5], f"{Decimal(fields[5]) - 1:.2f}", fields[6]]
            short += [f"{Decimal(fields[7]) - 1:.2f}", *fields[8:]]
            at = rows.index(row)
            rows[at : at + 1] = {
                "without a line": [],
                "a line twice": [row, row],
                "a line short": [",".join(short)],
                "a foreign line": [row, row.replace(fields[2], "not ours")],
                "a line of nobody": [row.replace(fields[2], "not ours")],
            }[fault]
            total = sum((Decimal(r.split(",")[7]) for r in [opening, *rows]), Decimal("0.00"))
            closing = ",".join([*closing.split(",")[:7], f"{total:.2f}", *closing.split(",")[8:]])
        return "\n".join([header, opening, *rows, closing, ""])

    def match(self, _: str) -> None:
        """Two people say that a line that names nobody is any attempt's, with the lines that name it."""
        world = self.world
        attempts = Attempt.objects.filter(outcome__in=["open", "captured", "unapplied"])
        attempt = self.one(attempts)
        nobodys = StatementLine.objects.filter(type="charge").exclude(
            key__in=Attempt.objects.values("pk")
        )
        chosen: dict[str, Any] = {
            "line_ids": {
                self.one(nobodys),
                *StatementLine.objects.filter(key=attempt).values_list("pk", flat=True),
            }
            - {None},
            "attempt_ids": {attempt} - {None},
        }
        who: dict[str, Any] = {
            "now": world.clock.now(),
            "gateways": world.gateways,
            "ages": world.ages,
        }
        seen = matching.draft_match(**chosen).sha256
        made = matching.propose(**chosen, seen=seen, by="ann", reason="asked", **who)
        matching.approve(proposal_id=made.pk, seen=seen, by="bob", reason="asked", **who)
        note(f"matched {chosen}")

    def take_apart(self, _: str) -> None:
        matched = self.one(Proposal.objects.filter(way=Way.MATCHED))
        if matched:
            matching.take_apart(
                proposal_id=matched, by="ann", reason="not so", now=self.world.clock.now()
            )

    def hours_pass(self, hours: int) -> None:
        self.world.clock.forward(seconds=hours * 3600)

    def the_clock_jumps(self, days: int) -> None:
        self.world.clock.move_business(days=days)

    def look_again(self, _: str = "") -> None:
        reconciliation.reconcile_incremental(clock=self.world.clock, ages=self.world.ages)

    def look_at_all(self) -> None:
        reconciliation.reconcile(clock=self.world.clock, ages=self.world.ages)


def standing() -> dict[str, tuple[Decimal, Decimal]]:
    rows = Discrepancy.objects.filter(cleared_at__isnull=True)
    return {row.fingerprint: (row.expected, row.actual) for row in rows}


@pytest.mark.timeout(400)
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    beginning=st.sampled_from([BEGINNING, MATCHED]),
    history=steps,
    seed=st.integers(min_value=0, max_value=2**16),
)
def test_incremental_passes_find_what_a_full_one_finds(tmp_path, beginning, history, seed):
    """R55."""
    with block():
        played = History(tmp_path, seed)
        for step, detail in beginning:
            played.play(step, detail)
        for step, detail in history:
            played.play(step, detail)
        played.look_again()
        incremental = standing()

        reconciliation.reconcile(clock=played.world.clock, ages=played.world.ages)

        assert incremental == standing()
        assert ReconcileDirty.objects.count() == 0
        transaction.set_rollback(True)
    assert not connection.needs_rollback
