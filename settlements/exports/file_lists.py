"""Lists of what processors and banks told, and of what must land and did."""

from typing import Final

from settlements.exports.export_list import Column, ExportList, Type, days, standing, times

STATEMENTS: Final = ExportList(
    name="statements",
    what="files of processors by the days they cover, accepted and set aside, with their balances",
    columns=(
        Column("lane", "s.lane"),
        Column("processor", "s.processor"),
        Column("first day", "s.first_day", Type.DAY),
        Column("last day", "s.last_day", Type.DAY),
        Column("opening USD", "s.opening", Type.USD),
        Column("movement USD", "s.movement", Type.USD),
        Column("closing USD", "s.closing", Type.USD),
        Column("lines", "s.line_count", Type.COUNT),
        Column("state", "s.state"),
        Column("set aside because", "s.reason"),
        Column("imported at", "s.imported_at", Type.TIME),
        Column("imported by", "s.imported_by"),
        Column("accepted at", "s.accepted_at", Type.TIME),
        Column("file", "s.file_name"),
        Column("format", "s.format"),
        Column("SHA-256", "s.sha256"),
    ),
    source="settlements_statementimport s",
    filters={
        **days("s.first_day"),
        "lane": "s.lane = %(lane)s",
        "state": "s.state = %(state)s",
    },
    order="s.lane, s.first_day, s.id",
    total="s.movement",
    key="s.id",
)

STATEMENT_LINES: Final = ExportList(
    name="statement-lines",
    what="lines of statements as the processor wrote them",
    columns=(
        Column("file", "s.file_name"),
        Column("file state", "s.state"),
        Column("line", "l.number", Type.COUNT),
        Column("lane", "s.lane"),
        Column("line id", "l.line_id"),
        Column("type", "l.type"),
        Column("merchant reference", "l.reference"),
        Column("processor reference", "l.processor_reference"),
        Column("booked at", "l.booked_at", Type.TIME),
        Column("gross USD", "l.gross", Type.USD),
        Column("fee USD", "l.fee", Type.USD),
        Column("net USD", "l.net", Type.USD),
        Column("payout", "l.payout"),
    ),
    source="""settlements_statementline l
        JOIN settlements_statementimport s ON s.id = l.statement_id""",
    filters={
        **times("l.booked_at"),
        "lane": "s.lane = %(lane)s",
        "type": "l.type = %(type)s",
        "payout": "l.payout = %(payout)s",
    },
    order="s.lane, s.first_day, s.id, l.number",
    total="l.net",
    key="l.id",
    only="s.state = 'accepted'",
)

PAYOUTS: Final = ExportList(
    name="payouts",
    what="processors' batches by the day they left, with what landed of each",
    columns=(
        Column("payout", "p.reference"),
        Column("processor", "p.processor"),
        Column("lane", "p.lane"),
        Column("left on", "p.value_on", Type.DAY),
        Column("gross USD", "p.gross", Type.USD),
        Column("refunds USD", "p.refunds", Type.USD),
        Column("disputes USD", "p.disputes", Type.USD),
        Column("adjustments USD", "p.adjustments", Type.USD),
        Column("reserve USD", "p.reserve", Type.USD),
        Column("fees USD", "p.fees", Type.USD),
        Column("net USD", "p.net", Type.USD),
        Column("left USD", "p.paid", Type.USD),
        Column("lines", "p.line_count", Type.COUNT),
        Column("landed on", "p.landed_on", Type.DAY),
        Column("kept by the bank USD", "p.kept", Type.USD),
    ),
    source="settlements_payout p",
    filters={
        **days("p.value_on"),
        "lane": "p.lane = %(lane)s",
        "payout": "p.reference = %(payout)s",
        **standing("p.landed_on IS NULL"),
    },
    order="p.value_on, p.id",
    total="p.net",
    key="p.id",
)

BANK_STATEMENTS: Final = ExportList(
    name="bank-statements",
    what="statements of our banks by the days they cover, accepted and set aside",
    columns=(
        Column("account", "s.account"),
        Column("statement", "s.statement_id"),
        Column("number", "s.sequence", Type.COUNT),
        Column("first day", "s.first_day", Type.DAY),
        Column("last day", "s.last_day", Type.DAY),
        Column("opening USD", "s.opening", Type.USD),
        Column("movement USD", "s.movement", Type.USD),
        Column("closing USD", "s.closing", Type.USD),
        Column("entries", "s.entry_count", Type.COUNT),
        Column("entries not booked", "s.not_booked", Type.COUNT),
        Column("state", "s.state"),
        Column("set aside because", "s.reason"),
        Column("imported at", "s.imported_at", Type.TIME),
        Column("imported by", "s.imported_by"),
        Column("accepted at", "s.accepted_at", Type.TIME),
        Column("file", "s.file_name"),
        Column("SHA-256", "s.sha256"),
    ),
    source="settlements_bankstatement s",
    filters={
        **days("s.first_day"),
        "account": "s.account = %(account)s",
        "state": "s.state = %(state)s",
    },
    order="s.account, s.first_day, s.id",
    total="s.movement",
    key="s.id",
)

BANK_ENTRIES: Final = ExportList(
    name="bank-entries",
    what="booked entries of bank statements as the bank wrote them, with the payout each names",
    columns=(
        Column("account", "s.account"),
        Column("statement", "s.statement_id"),
        Column("statement state", "s.state"),
        Column("entry", "e.number", Type.COUNT),
        Column("booked on", "e.booked_on", Type.DAY),
        Column("value on", "e.value_on", Type.DAY),
        Column("net USD", "e.net", Type.USD),
        Column("payments", "e.payments", Type.COUNT),
        Column("reversal", "CASE WHEN e.is_reversal THEN 'yes' ELSE '' END"),
        Column("code", "e.code"),
        Column("end-to-end id", "e.end_to_end_id"),
        Column("bank's reference", "e.reference"),
        Column("entry's reference", "e.entry_reference"),
        Column("counterparty", "e.counterparty"),
        Column("remittance", "e.remittance"),
        Column("payout", "p.reference"),
        Column("lane of the payout", "p.lane"),
    ),
    source="""settlements_bankentry e
        JOIN settlements_bankstatement s ON s.id = e.statement_id
        LEFT JOIN settlements_payoutcredit k ON k.entry_id = e.id
        LEFT JOIN settlements_payout p ON p.id = k.payout_id""",
    filters={
        **days("e.booked_on"),
        "account": "s.account = %(account)s",
        "payout": "p.reference = %(payout)s",
    },
    order="s.account, s.first_day, s.id, e.number",
    total="e.net",
    key="e.id",
    only="s.state = 'accepted'",
)

SETTLEMENTS: Final = ExportList(
    name="settlements",
    what="closed periods of creators by the time they were closed, with their sums",
    columns=(
        Column("settlement", "s.id"),
        Column("creator", "s.creator_id"),
        Column("external id", "r.external_id"),
        Column("period start", "s.period_start", Type.DAY),
        Column("period end", "s.period_end", Type.DAY),
        Column("lands on", "s.lands_on", Type.DAY),
        Column("charged USD", "s.charged", Type.USD),
        Column("unapplied USD", "s.unapplied", Type.USD),
        Column("refunded USD", "s.refunded", Type.USD),
        Column("disputed USD", "s.disputed", Type.USD),
        Column("fees USD", "s.fees", Type.USD),
        Column("adjusted USD", "s.adjusted", Type.USD),
        Column("net USD", "s.net", Type.USD),
        Column("lines", "s.line_count", Type.COUNT),
        Column("closed at", "s.closed_at", Type.TIME),
        Column("proved at", "s.proved_at", Type.TIME),
    ),
    source="settlements_settlement s JOIN checkout_creator r ON r.id = s.creator_id",
    filters={
        **times("s.closed_at"),
        "creator": "s.creator_id = %(creator)s",
        "settlement": "s.id = %(settlement)s",
        **standing("s.proved_at IS NULL"),
    },
    order="s.closed_at, s.id",
    total="s.net",
    key="s.id",
)

SETTLEMENT_LINES: Final = ExportList(
    name="settlement-lines",
    what="lines of settlements by their own time; --settlement takes those of one",
    columns=(
        Column("settlement", "l.settlement_id"),
        Column("creator", "s.creator_id"),
        Column("period start", "s.period_start", Type.DAY),
        Column("kind", "l.kind"),
        Column("occurred at", "l.occurred_at", Type.TIME),
        Column("amount USD", "l.amount", Type.USD),
        Column("lane", "l.lane"),
        Column("charge", "l.charge_id"),
        Column("merchant reference", "l.attempt_id"),
        Column("line id", "t.line_id"),
    ),
    source="""settlements_settlementline l
        JOIN settlements_settlement s ON s.id = l.settlement_id
        LEFT JOIN settlements_statementline t ON t.id = l.statement_line_id""",
    filters={
        **times("l.occurred_at"),
        "kind": "l.kind = %(kind)s",
        "lane": "l.lane = %(lane)s",
        "creator": "s.creator_id = %(creator)s",
        "settlement": "l.settlement_id = %(settlement)s",
    },
    order="l.occurred_at, l.id",
    total="l.amount",
    key="l.id",
)
