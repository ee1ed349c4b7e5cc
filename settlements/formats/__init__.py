"""The formats a processor's statement may have: each recognises itself and becomes lines.

A new one is a module with `NAME`, `looks_like(head)` and `read(chunks, told)`, and a row here; one that
names no balances has `told_balances(told)`, too.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from settlements.formats import camt_lines, processor_csv, stripe
from settlements.formats.lines import BadRow, Item, Refused, Told


@dataclass(frozen=True)
class Format:
    """How one kind of file is recognised, and read into lines piece by piece."""

    name: str
    what: str
    looks_like: Callable[[bytes], bool]
    read: Callable[[Iterable[bytes], Told], Iterator[Item]]
    # Opening and closing as somebody told them, for want of the file's own; the opening may be left out.
    told_balances: Callable[[Told], tuple[Decimal | None, Decimal | None]] = lambda _: (None, None)


FORMATS: Final = {
    each.name: each
    for each in (
        Format(
            processor_csv.NAME,
            "the processor's CSV, framed by opening and closing",
            processor_csv.looks_like,
            processor_csv.read,
        ),
        Format(
            stripe.NAME,
            "Stripe's itemized balance report, CSV",
            stripe.looks_like,
            stripe.read,
            stripe.told_balances,
        ),
        Format(
            camt_lines.NAME,
            "ISO 20022 camt.053.001.02, .08 or .14, XML",
            camt_lines.looks_like,
            camt_lines.read,
        ),
    )
}
# What else people have at hand: how it begins, and what to do instead.
OTHERS: Final = (
    (b"%PDF", "it is a PDF; download the statement as CSV or camt.053"),
    (b"\xd0\xcf\x11\xe0", "it is an old Excel workbook; save it as CSV in UTF-8"),
    (b"\xff\xfe", "it is UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "it is UTF-16; save it as UTF-8"),
    (b":20:", "it is MT940; ask the bank for camt.053"),
    (b"{1:", "it is MT940; ask the bank for camt.053"),
    (b"01,", "it is BAI2; ask the bank for camt.053"),
)


def recognise(head: bytes) -> Format:
    """The format of a file that begins so. Raises Refused with what is known."""
    for each in FORMATS.values():
        if each.looks_like(head):
            return each
    if not head:
        raise Refused([BadRow(1, "the file is empty")])
    for start, reason in OTHERS:
        if head.startswith(start):
            raise Refused([BadRow(1, reason)])
    known = "; ".join(f"{each.name}: {each.what}" for each in FORMATS.values())
    begins = head[:40].decode("utf-8", "replace").splitlines()[:1]
    raise Refused([BadRow(1, f"{''.join(begins)!r} begins none of the formats read ({known})")])
