"""The statement file of the sandbox processor: what is in it, to the cent, and how it is written.

Format (this docstring is the definition; the service's parser is written against it)
-------------------------------------------------------------------------------------
UTF-8 without BOM, comma separated (RFC 4180 quoting, though no field ever needs it), lines end in
"\\n". The first line is always exactly

    line_id,type,reference,processor_reference,booked_at,gross,fee,net,currency,payout

then one `opening` row, any number of lines in order of `booked_at` (payouts first where equal),
and one `closing` row. A day without movements has just the opening and the closing row, so that
the file still proves that its day is covered. Example for account `sandbox-main`, 2026-01-05:

    sandbox-main-2026-01-05-opening,opening,,,2026-01-05T00:00:00Z,0.00,0.00,38.22,USD,
    po_sandbox-main_20260103,payout,,,2026-01-05T00:00:00Z,-19.11,0.00,-19.11,USD,po_sandbox-main_20260103
    ln_sbx_8c…,charge,6f1c…-…,sbx_8c…,2026-01-05T09:30:01Z,19.99,0.88,19.11,USD,po_sandbox-main_20260105
    sandbox-main-2026-01-05-closing,closing,,,2026-01-06T00:00:00Z,0.00,0.00,38.22,USD,

| column | meaning |
|---|---|
| line_id | unique for ever within the account, the same each time the file is asked for |
| type | `opening`, `closing`, or of the closed list: `charge`, `payout` (the others of that list, `refund`, `dispute`, …, do not occur in the sandbox yet) |
| reference | our merchant reference (the attempt's UUID), on `charge` only, else empty |
| processor_reference | the processor's id of the capture, on `charge` only, else empty |
| booked_at | UTC of the BUSINESS clock, `YYYY-MM-DDTHH:MM:SSZ`; for `closing` the end of the last day, exclusive |
| gross | what was captured; of a payout minus what left; `0.00` on `opening` and `closing` |
| fee | what the processor kept of this line, positive; `0.00` where none |
| net | gross - fee, what the line adds to the balance; on `opening` and `closing` the balance itself |
| currency | `USD` |
| payout | the payout this line is or will be part of (named on the charge already); empty on `opening`, `closing` |

Amounts match `^-?(0|[1-9][0-9]{0,9})\\.[0-9]{2}$`. Sums: net = gross - fee on every line;
opening.net + sum of net over the lines = closing.net, and a file's opening.net is the closing.net
of the day before (R40). The fee is 2.9 % of the captured amount + 0.30, rounded half up, and
stands on the charge's own line: there are no separate `fee` lines.

Payouts: the net of all charges booked on UTC day D leaves on D + 2 days at 00:00:00Z as one line
(`po_<account>_<D as YYYYMMDD>`), negative nets included.

A file covers one UTC day of the business clock, or several (`first` to `last`, both included). It
exists once its last day is over on the business clock, and never changes then.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal

COLUMNS = (
    "line_id",
    "type",
    "reference",
    "processor_reference",
    "booked_at",
    "gross",
    "fee",
    "net",
    "currency",
    "payout",
)
FEE_RATE = Decimal("0.029")
FEE_FIXED = Decimal("0.30")
PAYOUT_DELAY = timedelta(days=2)
CENT = Decimal("0.01")
NOTHING = Decimal("0.00")


@dataclass(frozen=True)
class Capture:
    """One capture of an account, USD, dated by the business clock."""

    reference: str
    processor_reference: str
    booked_at: datetime
    amount: Decimal


@dataclass(frozen=True)
class Line:
    """One row of the file; `net` is a balance on opening and closing rows."""

    line_id: str
    type: str
    booked_at: datetime
    gross: Decimal
    fee: Decimal
    net: Decimal
    payout: str = ""
    reference: str = ""
    processor_reference: str = ""


def fee(amount: Decimal) -> Decimal:
    """What the processor keeps of a capture of `amount` USD, rounded half up once (R4)."""
    return (amount * FEE_RATE + FEE_FIXED).quantize(CENT, rounding=ROUND_HALF_UP)


def movements(*, account: str, captures: Iterable[Capture]) -> list[Line]:
    """Every charge and payout line the captures lead to, in order of booking, without end date."""
    charges = [_charge_line(account, capture) for capture in captures]
    nets: dict[date, Decimal] = {}
    for line in charges:
        day = line.booked_at.date()
        nets[day] = nets.get(day, NOTHING) + line.net
    payouts = [_payout_line(account, day, net) for day, net in nets.items()]
    return sorted([*payouts, *charges], key=lambda line: (line.booked_at, line.type != "payout"))


def render(*, account: str, captures: Iterable[Capture], first: date, last: date) -> str:
    """The file of `account` for the UTC days `first` to `last`, both included, as text."""
    start = datetime.combine(first, time(), UTC)
    end = datetime.combine(last, time(), UTC) + timedelta(days=1)
    lines = movements(account=account, captures=captures)
    opening = sum((line.net for line in lines if line.booked_at < start), NOTHING)
    covered = [line for line in lines if start <= line.booked_at < end]
    closing = opening + sum((line.net for line in covered), NOTHING)
    rows = [
        Line(f"{account}-{first}-opening", "opening", start, NOTHING, NOTHING, opening),
        *covered,
        Line(f"{account}-{last}-closing", "closing", end, NOTHING, NOTHING, closing),
    ]
    return _csv(rows)


def _charge_line(account: str, capture: Capture) -> Line:
    kept = fee(capture.amount)
    return Line(
        line_id=f"ln_{capture.processor_reference}",
        type="charge",
        booked_at=capture.booked_at.replace(microsecond=0),
        gross=capture.amount,
        fee=kept,
        net=capture.amount - kept,
        payout=_payout_id(account, capture.booked_at.date()),
        reference=capture.reference,
        processor_reference=capture.processor_reference,
    )


def _payout_line(account: str, day: date, net: Decimal) -> Line:
    payout = _payout_id(account, day)
    booked_at = datetime.combine(day, time(), UTC) + PAYOUT_DELAY
    return Line(payout, "payout", booked_at, -net, NOTHING, -net, payout=payout)


def _payout_id(account: str, day: date) -> str:
    return f"po_{account}_{day:%Y%m%d}"


def _csv(rows: Sequence[Line]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(
            (
                row.line_id,
                row.type,
                row.reference,
                row.processor_reference,
                f"{row.booked_at:%Y-%m-%dT%H:%M:%SZ}",
                f"{row.gross:.2f}",
                f"{row.fee:.2f}",
                f"{row.net:.2f}",
                "USD",
                row.payout,
            )
        )
    return out.getvalue()
