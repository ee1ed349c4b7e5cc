"""Lists of what did not agree, of what people decided about it, and of who did what."""

from typing import Final

from settlements.exports.export_list import Column, ExportList, Type, days, standing, times

DISCREPANCIES: Final = ExportList(
    name="discrepancies",
    what="what does not agree, by the time it was found",
    columns=(
        Column("discrepancy", "d.fingerprint"),
        Column("kind", "d.kind"),
        Column("code", "d.code"),
        Column("charge", "d.charge_id"),
        Column("creator", "d.creator_id"),
        Column("lane", "d.lane"),
        Column("expected USD", "d.expected", Type.USD),
        Column("actual USD", "d.actual", Type.USD),
        Column("difference USD", "d.difference", Type.USD),
        Column("what does not agree", "d.explanation"),
        Column("opened at", "d.opened_at", Type.TIME),
        Column("cleared at", "d.cleared_at", Type.TIME),
        Column("resolved at", "d.resolved_at", Type.TIME),
    ),
    source="settlements_discrepancy d",
    filters={
        **times("d.opened_at"),
        "kind": "d.kind = %(kind)s",
        **standing("d.cleared_at IS NULL AND d.resolved_at IS NULL"),
        "lane": "d.lane = %(lane)s",
        "creator": "d.creator_id = %(creator)s",
    },
    order="d.opened_at, d.id",
    total="d.difference",
    key="d.id",
)

PROPOSALS: Final = ExportList(
    name="proposals",
    what="what one person proposed about discrepancies or as a match, and what another decided",
    columns=(
        Column("proposal", "p.id", Type.COUNT),
        Column("way", "p.way"),
        Column("rows", "p.count", Type.COUNT),
        Column("net USD", "p.net", Type.USD),
        Column("absolute USD", "p.absolute", Type.USD),
        Column("proposed at", "p.proposed_at", Type.TIME),
        Column("proposed by", "p.proposed_by"),
        Column("proposed because", "p.reason"),
        Column("decision", "p.decision"),
        Column("decided at", "p.decided_at", Type.TIME),
        Column("decided by", "p.decided_by"),
        Column("decided because", "p.decided_because"),
        Column("SHA-256 of what was seen", "p.sha256"),
    ),
    source="settlements_proposal p",
    filters={
        **times("p.proposed_at"),
        "by": "p.proposed_by = %(by)s",
        **standing("p.decision = ''"),
    },
    order="p.proposed_at, p.id",
    total="p.net",
    key="p.id",
)

DESK_ACTIONS: Final = ExportList(
    name="desk-actions",
    what="the trail of the discrepancy desk: who did what about which, when and why",
    columns=(
        Column("action", "a.id", Type.COUNT),
        Column("at", "a.at", Type.TIME),
        Column("by", "a.by"),
        Column("what", "a.kind"),
        Column("reason", "a.reason"),
        Column("assigned to", "a.assigned_to"),
        Column("proposal", "a.proposal_id", Type.COUNT),
        Column("discrepancy", "d.fingerprint"),
        Column("charge", "d.charge_id"),
    ),
    source="""settlements_deskaction a
        LEFT JOIN settlements_discrepancy d ON d.id = a.discrepancy_id""",
    filters={**times("a.at"), "by": "a.by = %(by)s", "kind": "a.kind = %(kind)s"},
    order="a.at, a.id",
    key="a.id",
)

CASES: Final = ExportList(
    name="cases",
    what="what a person had to decide, and how it was decided",
    columns=(
        Column("case", "k.id", Type.COUNT),
        Column("kind", "k.kind"),
        Column("about", "k.subject"),
        Column("charge", "k.charge_id"),
        Column("creator", "k.creator_id"),
        Column("amount USD", "k.amount", Type.USD),
        Column("reason", "k.reason"),
        Column("opened at", "k.opened_at", Type.TIME),
        Column("proposal", "k.proposal"),
        Column("proposed by", "k.proposed_by"),
        Column("approved by", "k.approved_by"),
        Column("closed at", "k.closed_at", Type.TIME),
        Column("closed because", "k.closed_because"),
    ),
    source="checkout_case k",
    filters={
        **times("k.opened_at"),
        "kind": "k.kind = %(kind)s",
        "creator": "k.creator_id = %(creator)s",
        **standing("k.closed_at IS NULL"),
    },
    order="k.opened_at, k.id",
    total="k.amount",
    key="k.id",
)

HOLDS: Final = ExportList(
    name="holds",
    what="where collection was stopped, by whom and why, until when, and who lifted it",
    columns=(
        Column("hold", "h.id", Type.COUNT),
        Column("kind", "h.kind"),
        Column("scope", "h.scope"),
        Column("of", "h.subject"),
        Column("reason", "h.reason"),
        Column("placed at", "h.placed_at", Type.TIME),
        Column("placed by", "h.placed_by"),
        Column("until", "h.until", Type.TIME),
        Column("lifted at", "h.lifted_at", Type.TIME),
        Column("lifted by", "h.lifted_by"),
    ),
    source="checkout_hold h",
    filters={
        **times("h.placed_at"),
        "by": "h.placed_by = %(by)s",
        "kind": "h.kind = %(kind)s",
        **standing("h.lifted_at IS NULL AND (h.until IS NULL OR h.until > now())"),
    },
    order="h.placed_at, h.id",
    key="h.id",
)

BULK_REQUEUES: Final = ExportList(
    name="bulk-requeues",
    what="many exhausted charges opened again at once: which, by whom and why, and who approved it",
    columns=(
        Column("bulk requeue", "b.id", Type.COUNT),
        Column("lane", "b.lane"),
        Column("decline class", "b.decline_class"),
        Column("awaits", "b.awaits"),
        Column("exhausted from", "b.since", Type.TIME),
        Column("exhausted before", "b.until", Type.TIME),
        Column("charges", "b.count", Type.COUNT),
        Column("amount USD", "b.usd", Type.USD),
        Column("proposed at", "b.proposed_at", Type.TIME),
        Column("proposed by", "b.proposed_by"),
        Column("proposed because", "b.reason"),
        Column("needs approval", "CASE WHEN b.needs_approval THEN 'yes' ELSE 'no' END"),
        Column("decision", "b.decision"),
        Column("decided at", "b.decided_at", Type.TIME),
        Column("decided by", "b.decided_by"),
        Column("decided because", "b.decided_because"),
        Column("finished at", "b.finished_at", Type.TIME),
        Column("SHA-256 of what was seen", "b.sha256"),
    ),
    source="checkout_bulkrequeue b",
    filters={
        **times("b.proposed_at"),
        "by": "b.proposed_by = %(by)s",
        **standing("b.finished_at IS NULL"),
    },
    order="b.proposed_at, b.id",
    total="b.usd",
    key="b.id",
)

# No total: a month holds its days, so that a sum would say each twice.
CLOSES: Final = ExportList(
    name="closes",
    what="closes of the books by their first day: sums, what was carried over, who locked it and why",
    columns=(
        Column("span", "b.span"),
        Column("first day", "b.first_day", Type.DAY),
        Column("ledger lines", "b.line_count", Type.COUNT),
        Column("debit USD", "b.debit", Type.USD),
        Column("credit USD", "b.credit", Type.USD),
        Column("carried over", "b.carried_count", Type.COUNT),
        Column("carried over USD", "b.carried_usd", Type.USD),
        Column("proposed at", "b.proposed_at", Type.TIME),
        Column("proposed by", "b.proposed_by"),
        Column("decision", "b.decision"),
        Column("decided at", "b.decided_at", Type.TIME),
        Column("decided by", "b.decided_by"),
        Column("decided because", "b.decided_because"),
        Column("SHA-256 of the journal", "b.journal_sha256"),
        Column("SHA-256 of the close", "b.sha256"),
    ),
    source="settlements_booksclose b",
    filters={
        **days("b.first_day"),
        "by": "b.proposed_by = %(by)s",
        **standing("b.decision = ''"),
    },
    order="b.first_day, b.id",
    key="b.id",
)

AUDIT_TRAIL: Final = ExportList(
    name="audit-trail",
    what="the log of decisions: who did what about which row, when and why",
    columns=(
        Column("line", "g.id", Type.COUNT),
        Column("at", "g.action_time", Type.TIME),
        Column("by", "u.username"),
        Column("about what", "t.app_label || '.' || t.model"),
        Column("id", "g.object_id"),
        Column("about", "g.object_repr"),
        Column("what, and why", "g.change_message"),
    ),
    source="""django_admin_log g
        JOIN auth_user u ON u.id = g.user_id
        LEFT JOIN django_content_type t ON t.id = g.content_type_id""",
    filters={
        **times("g.action_time"),
        "by": "u.username = %(by)s",
        "about": "t.app_label || '.' || t.model = %(about)s",
    },
    order="g.action_time, g.id",
    key="g.id",
)
