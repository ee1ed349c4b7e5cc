"""Lists of what was owed, charged, captured and posted."""

from typing import Final

from settlements.exports.export_list import Column, ExportList, Type, times

CHARGES: Final = ExportList(
    name="charges",
    what="charges by the day they were owed, with what was captured",
    columns=(
        Column("charge", "c.id"),
        Column("creator", "c.creator_id"),
        Column("external id", "r.external_id"),
        Column("plan", "t.plan_id"),
        Column("period start", "c.period_start", Type.DAY),
        Column("period end", "c.period_end", Type.DAY),
        Column("owed at", "c.billed_at", Type.TIME),
        Column("amount USD", "c.amount", Type.USD),
        Column("state", "c.state"),
        Column("lane", "c.lane"),
        Column("captured USD", "a.captured_amount", Type.USD),
        Column("captured at", "a.booked_at", Type.TIME),
        Column("merchant reference", "a.id"),
        Column("processor reference", "a.processor_reference"),
    ),
    source="""checkout_charge c
        JOIN checkout_creator r ON r.id = c.creator_id
        JOIN checkout_subscriptionterms t ON t.id = c.terms_id
        LEFT JOIN checkout_attempt a ON a.charge_id = c.id AND a.outcome = 'captured'""",
    filters={
        **times("c.billed_at"),
        "state": "c.state = %(state)s",
        "lane": "c.lane = %(lane)s",
        "creator": "c.creator_id = %(creator)s",
    },
    order="c.billed_at, c.id",
    total="c.amount",
    key="c.id",
)

ATTEMPTS: Final = ExportList(
    name="attempts",
    what="tries at a processor by the time they began, with how each ended",
    columns=(
        Column("merchant reference", "a.id"),
        Column("charge", "a.charge_id"),
        Column("creator", "a.creator_id"),
        Column("lane", "a.lane"),
        Column("round", "a.round", Type.COUNT),
        Column("number", "a.number", Type.COUNT),
        Column("sends", "a.sends", Type.COUNT),
        Column("amount USD", "a.amount", Type.USD),
        Column("outcome", "a.outcome"),
        Column("verdict", "a.verdict"),
        Column("decline class", "a.decline_class"),
        Column("decline code", "a.decline_code"),
        Column("captured USD", "a.captured_amount", Type.USD),
        Column("processor reference", "a.processor_reference"),
        Column("started at", "a.started_at", Type.TIME),
        Column("ended at", "a.ended_at", Type.TIME),
    ),
    source="checkout_attempt a",
    filters={
        **times("a.started_at"),
        "outcome": "a.outcome = %(outcome)s",
        "lane": "a.lane = %(lane)s",
        "creator": "a.creator_id = %(creator)s",
    },
    order="a.started_at, a.id",
    # What was asked for: that is what the page of attempts adds up.
    total="a.amount",
    key="a.id",
)

# As settlements/captures.py tells it for the rows of a page.
CAPTURES: Final = ExportList(
    name="captures",
    what="captures by the time they were booked, with how far each is proved",
    columns=(
        Column("merchant reference", "a.id"),
        Column("charge", "a.charge_id"),
        Column("creator", "a.creator_id"),
        Column("external id", "r.external_id"),
        Column("lane", "a.lane"),
        Column("booked at", "a.booked_at", Type.TIME),
        Column("day of its lane", "day.of_lane", Type.DAY),
        Column("outcome", "a.outcome"),
        Column("captured USD", "a.captured_amount", Type.USD),
        Column(
            "proof",
            """CASE
            WHEN EXISTS (SELECT 1 FROM settlements_discrepancy d WHERE d.charge_id = a.charge_id
              AND d.cleared_at IS NULL AND d.resolved_at IS NULL) THEN 'discrepant'
            WHEN EXISTS (SELECT 1 FROM settlements_statementexpectation e WHERE e.lane = a.lane
              AND e.day = day.of_lane AND e.state = 'arrived') THEN 'proved'
            ELSE 'awaiting' END""",
        ),
        Column("processor reference", "a.processor_reference"),
    ),
    # OFFSET 0: a lane's zone is looked up once, not for each capture.
    source="""checkout_attempt a
        JOIN checkout_creator r ON r.id = a.creator_id
        LEFT JOIN (SELECT lane, settlements_statement_zone(lane) AS zone
          FROM settlements_statementterms OFFSET 0) z ON z.lane = a.lane
        CROSS JOIN LATERAL (
          SELECT (a.booked_at AT TIME ZONE coalesce(z.zone, 'UTC'))::date AS of_lane) day""",
    filters={
        **times("a.booked_at"),
        "lane": "a.lane = %(lane)s",
        "creator": "a.creator_id = %(creator)s",
    },
    order="a.booked_at, a.id",
    total="a.captured_amount",
    key="a.id",
    only="a.outcome IN ('captured', 'unapplied') AND a.booked_at IS NOT NULL",
)

LEDGER_ENTRIES: Final = ExportList(
    name="ledger-entries",
    what="entries of the books by the time they were posted, with their postings in words",
    columns=(
        Column("entry", "e.id"),
        Column("kind", "e.kind"),
        Column("posted at", "e.posted_at", Type.TIME),
        Column("charge", "e.charge_id"),
        Column("creator", "c.creator_id"),
        Column("merchant reference", "e.attempt_id"),
        Column("lane", "p.lane"),
        Column("debits USD", "p.debits", Type.USD),
        Column("postings (debit +, credit -)", "p.in_words"),
    ),
    source="""checkout_ledgerentry e
        LEFT JOIN checkout_charge c ON c.id = e.charge_id
        CROSS JOIN LATERAL (
          SELECT max(o.lane) AS lane, sum(o.amount) FILTER (WHERE o.amount > 0) AS debits,
            string_agg(o.account || ' ' || to_char(o.amount, 'FMSG999,999,999,990.00'), ' · '
              ORDER BY o.id) AS in_words
          FROM checkout_ledgerposting o WHERE o.entry_id = e.id) p""",
    filters={
        **times("e.posted_at"),
        "kind": "e.kind = %(kind)s",
        "lane": "p.lane = %(lane)s",
        "creator": "c.creator_id = %(creator)s",
    },
    order="e.posted_at, e.id",
    # Debits equal credits; their difference is always nothing.
    total="p.debits",
    key="e.id",
)
