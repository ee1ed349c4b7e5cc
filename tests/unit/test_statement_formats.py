"""Formats: recognised by how they begin, read to the cent however the bytes arrive, or refused."""

import gzip
import random
import tracemalloc
import zipfile
from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settlements.formats import FORMATS, processor_csv, recognise, stripe
from settlements.formats.lines import KEPT, BadRow, Line, Refused, Told, summarise
from settlements.formats.source import Bounds, Torn, opened
from settlements.models import LineType

FILES = Path(__file__).parents[1] / "files" / "statements"
[STRIPE_FILE] = FILES.glob("itemized*.csv")
STRIPE = STRIPE_FILE.read_text("utf-8")
NAMED = Told(file_name=STRIPE_FILE.name, closing=Decimal("94.98"))
CSV = (
    f"{processor_csv.HEADER}\n"
    "o,opening,,,2026-01-05T00:00:00Z,0.00,0.00,38.22,USD,\n"
    'l1,charge,"é, ""r""",sbx_1,2026-01-05T09:30:01Z,19.99,0.88,19.11,USD,po_1\n'
    "c,closing,,,2026-01-06T00:00:00Z,0.00,0.00,57.33,USD,\n"
)


def stripe_lines(text: str, told: Told = NAMED) -> list[Line]:
    return [
        item
        for item in stripe.parse(text.splitlines(keepends=True), told)
        if isinstance(item, Line)
    ]


def refusals(text: str, told: Told = NAMED) -> list[str]:
    with pytest.raises(Refused) as refused:
        summarise(stripe.parse(text.splitlines(keepends=True), told))
    return [str(bad) for bad in refused.value.bad]


# --- Recognised ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (CSV.encode(), "processor-csv"),
        (STRIPE.encode(), "stripe-balance"),
        (b"\xef\xbb\xbf" + STRIPE.encode(), "stripe-balance"),
        (b"\xef\xbb\xbf\n <?xml version='1.0'?><Document/>", "camt.053"),
    ],
)
def test_a_file_is_recognised_by_how_it_begins(head, name):
    assert recognise(head).name == name
    assert set(FORMATS) == {"processor-csv", "stripe-balance", "camt.053"}


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"", "empty"),
        (b"%PDF-1.7", "it is a PDF"),
        (b":20:STMT", "ask the bank for camt.053"),
        ("line_id,type".encode("utf-16"), "save it as UTF-8"),
        (b"date;amount\n", "begins none of the formats"),
    ],
)
def test_what_is_not_recognised_is_told_what_is(head, says):
    with pytest.raises(Refused, match=says):
        recognise(head)


# --- Stripe's report -------------------------------------------------------------------------------


def test_stripes_report_becomes_lines_to_the_cent():
    summary = summarise(stripe.parse(STRIPE.splitlines(keepends=True), NAMED))

    assert (summary.first_day, summary.last_day) == (date(2026, 1, 5), date(2026, 1, 5))
    assert (summary.opening, summary.closing) == (None, Decimal("94.98"))
    assert (summary.line_count, summary.movement) == (6, Decimal("-5.02"))
    assert summary.unknown is None
    assert {name: str(each.net) for name, each in summary.sums.items()} == {
        "charge": "38.22",
        "refund": "-5.00",
        "dispute": "-34.99",
        "reserve_hold": "-2.00",
        "fee": "-1.25",
    }


def test_a_line_of_stripe_keeps_our_reference_and_its_payout():
    first = stripe_lines(STRIPE)[0]

    assert first.reference == "6f1c0000-0000-5000-8000-000000000001"
    assert (first.processor_reference, first.payout) == ("ch_3Q1", "po_1Q1")
    assert first.booked_at == datetime(2026, 1, 5, 9, 30, 1, tzinfo=UTC)


def test_local_times_are_read_in_the_lanes_zone():
    """`created` without _utc is in the zone the report was run with."""
    told = replace(NAMED, zone=ZoneInfo("Asia/Almaty"))
    local = STRIPE.replace("created_utc", "created")

    assert stripe_lines(local, told)[0].booked_at == datetime(2026, 1, 5, 4, 30, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("category", "net", "kind"),
    [
        ("payout", "-10.00", LineType.PAYOUT),
        ("payout_reversal", "10.00", LineType.PAYOUT),
        ("refund_failure", "10.00", LineType.REFUND),
        ("dispute_reversal", "10.00", LineType.REVERSAL),
        ("connect_reserved_funds", "10.00", LineType.RESERVE_RELEASE),
        ("other_adjustment", "10.00", LineType.ADJUSTMENT),
        ("network_cost", "-10.00", LineType.FEE),
        # Nobody agreed on it: it stays as it is, and sets the file aside.
        ("topup", "10.00", "topup"),
    ],
)
def test_each_reporting_category_is_a_line_type(category, net, kind):
    row = f"txn_9,2026-01-05 15:00:00,,usd,{net},0.00,{net},{category},obj_9,,,\n"
    header = STRIPE.splitlines(keepends=True)[0]

    assert stripe_lines(header + row)[0].type == kind
    unknown = summarise(stripe.parse([header, row], NAMED)).unknown
    assert unknown == (None if kind in LineType else (2, "topup"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("usd,19.99,0.88,19.11", "eur,19.99,0.88,19.11", "line 2: currency 'eur' is not USD"),
        ("19.99,0.88,19.11", "null,0.88,19.11", "line 2: gross 'null' is not an amount"),
        ("19.99,0.88,19.11", "19.99,,19.11", "line 2: fee '' is not an amount"),
        ("19.99,0.88,19.11", "19.99,0.88,19.10", "line 2: net 19.10 is not gross"),
        ("19.99,0.88,19.11", "19.999,0.88,19.11", "is not an amount"),
        ("2026-01-05 09:30:01", "2026-01-06 09:30:01", "but the report covers 2026-01-05"),
        ("2026-01-05 09:30:01", "5/1/26 09:30", "is not a time"),
        ("txn_3Q1", "", "must not be empty"),
        ("currency,gross", "currency,amount", "line 1: columns are missing: gross"),
        ("description", "gross", "columns stand twice: gross"),
        (
            "payment_metadata[attempt_id]",
            "payment_metadata[x]",
            "run it again with payment_metadata",
        ),
        (",po_1Q1,6f1c0000-0000-5000-8000-000000000001", "", "10 fields instead of 12"),
    ],
)
def test_a_bad_report_says_what_to_do(old, new, says):
    """R2, R3, R9, R39."""
    assert any(says in text for text in refusals(STRIPE.replace(old, new, 1)))


def test_a_report_that_does_not_say_its_days_is_refused_until_they_are_told():
    """R53: a day is covered only if somebody says so."""
    assert "tell the first and the last day" in refusals(STRIPE, Told(file_name="report.csv"))[0]
    told = Told(first_day=date(2026, 1, 4), last_day=date(2026, 1, 5), closing=Decimal("94.98"))

    assert summarise(stripe.parse(STRIPE.splitlines(keepends=True), told)).first_day.day == 4


def test_a_report_without_its_closing_is_refused_until_it_is_told():
    """R40: it has no last row of its own, so cut at a row's end it would look whole."""
    assert "tell it (--closing, or" in refusals(STRIPE, Told(file_name=STRIPE_FILE.name))[0]
    only_opening = replace(NAMED, opening=Decimal("100.00"), closing=None)
    assert "does not say its closing balance" in refusals(STRIPE, only_opening)[0]


@pytest.mark.parametrize(
    ("named", "balances"),
    [
        ("_opening_100.00_closing_94.98", (Decimal("100.00"), Decimal("94.98"))),
        ("_closing_-5.02", (None, Decimal("-5.02"))),
        # What is told by hand is believed before a name.
        ("", (None, Decimal("94.98"))),
    ],
)
def test_a_files_name_may_tell_its_balances(named, balances):
    """So may whatever brings reports into the watched folder."""
    name = STRIPE_FILE.stem + named + ".csv"
    told = Told(file_name=name) if named else NAMED

    summary = summarise(stripe.parse(STRIPE.splitlines(keepends=True), told))

    assert (summary.opening, summary.closing) == balances
    assert summary.is_told


# --- However the bytes arrive ------------------------------------------------------------------------


def pieces(content: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted(cuts)
    return [content[a:b] for a, b in zip([0, *places], [*places, len(content)], strict=True)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_split_of_the_stream_gives_the_same(data):
    name, content = data.draw(
        st.sampled_from([("processor-csv", CSV.encode()), ("stripe-balance", STRIPE.encode())])
    )
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=12))
    read = FORMATS[name].read

    items = list(read(pieces(content, cuts), NAMED))

    assert items == list(read([content], NAMED))
    assert not any(isinstance(item, BadRow) for item in items)


def test_no_amount_is_ever_a_float():
    """R8."""
    for item in [*stripe_lines(STRIPE), *processor_csv.parse(CSV.splitlines(keepends=True))]:
        assert not any(isinstance(getattr(item, each.name), float) for each in fields(item))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (CSV.replace("é", "\xe9").encode("latin-1"), "line 3: it is not UTF-8"),
        (CSV.encode()[: CSV.encode().index(b"\xc3") + 1], "line 3: it is not UTF-8"),
        (CSV.encode()[:-40], "line 4: "),
        (CSV.encode() + b"x" * (2 << 20), "longer than a million characters"),
        (CSV.replace(",po_1", ',"po_1').encode(), "it is not CSV"),
    ],
)
def test_text_that_is_broken_is_refused_with_its_line(content, says):
    """FAULTS, hostile input: wrong encoding, truncated, a line without an end, a quote left open."""
    with pytest.raises(Refused, match=says):
        summarise(processor_csv.read([content], Told()))


def test_a_million_bad_rows_are_counted_and_not_kept():
    rows = (f"l{n},charge,,,x,x,x,x,USD,\n" for n in range(5 * KEPT))
    with pytest.raises(Refused) as refused:
        summarise(processor_csv.parse([f"{processor_csv.HEADER}\n", *rows]))

    assert (len(refused.value.bad), refused.value.count) == (KEPT, 5 * KEPT)
    assert f"and {5 * KEPT - 50} more" in str(refused.value)


# --- Packed, large, and hostile files ------------------------------------------------------------------

SMALL = Bounds(largest_bytes=64 << 20, largest_ratio=100)


def unpacked(path: Path, bounds: Bounds = SMALL) -> int:
    with opened(path, bounds) as source:
        return sum(len(piece) for piece in source.chunks())


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def test_a_packed_file_is_read_like_the_file_itself(tmp_path):
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(CSV.encode()))
    zipped = archive(tmp_path / "a.zip", {"../../etc/a.csv": CSV.encode()})

    for path in (packed, zipped):
        with opened(path, SMALL) as source:
            assert recognise(source.head()).name == "processor-csv"
            assert b"".join(source.chunks()) == CSV.encode()
            assert b"".join(source.chunks()) == CSV.encode()
    # Whatever the archive calls it, nothing is unpacked to the disk.
    assert set(tmp_path.iterdir()) == {packed, zipped}


def test_a_bomb_ends_after_some_megabytes_in_bounded_memory(tmp_path):
    """FAULTS, hostile input: 2 GB of zeros in 2 MB, as .gz and as .zip."""
    bomb = tmp_path / "bomb.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    zipped = archive(tmp_path / "bomb.zip", {"a.csv": bytes(40 << 20)})

    tracemalloc.start()
    for path in (bomb, zipped):
        with pytest.raises(Refused, match="times its size"):
            unpacked(path, Bounds(largest_bytes=1 << 30, largest_ratio=100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4 << 20


def test_what_unpacks_beyond_the_bound_is_refused_though_its_ratio_is_fair(tmp_path):
    content = random.Random(1).randbytes(1 << 20) * 3
    path = archive(tmp_path / "a.zip", {"a.csv": content})

    with pytest.raises(Refused, match="STATEMENT_LARGEST_BYTES"):
        unpacked(path, Bounds(largest_bytes=2 << 20, largest_ratio=100))


def test_a_file_that_is_too_large_is_refused_from_its_size(tmp_path):
    """FAULTS, hostile input: 2 GB, of which not a byte is read."""
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(2 << 30)

    with pytest.raises(Refused, match="2147483648 bytes"):
        unpacked(path, Bounds())


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "list of files|holds 0 files|begins"),
        ({"a.csv": b"a", "b.csv": b"b"}, "holds 2 files"),
        ({"[Content_Types].xml": b"", "xl/workbook.xml": b""}, "an Excel workbook"),
        ({f"{n:0100d}": b"" for n in range(2000)}, "lists too many files"),
    ],
)
def test_an_archive_holds_one_file(tmp_path, files, says):
    path = archive(tmp_path / "a.zip", files)
    if not files:
        path.write_bytes(b"PK\x03\x04" + bytes(40))

    with pytest.raises(Refused, match=says):
        unpacked(path)


@pytest.mark.parametrize("cut", [5, 30, -4])
def test_a_packed_file_that_breaks_off_is_refused(tmp_path, cut):
    for name, content in (
        ("a.gz", gzip.compress(CSV.encode())),
        ("a.zip", archive(tmp_path / "whole.zip", {"a.csv": CSV.encode()}).read_bytes()),
    ):
        path = tmp_path / name
        path.write_bytes(content[:cut])

        with pytest.raises(Refused, match=r"breaks off or is damaged|packed"):
            unpacked(path)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(Refused, match="it is not a file"):
        unpacked(tmp_path)


def test_a_file_that_changes_while_it_is_read_is_torn(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(CSV)

    def read_while_it_grows() -> None:
        with opened(path, SMALL) as source:
            assert b"".join(source.chunks())
            path.write_text(CSV * 2)
            source.must_be_unchanged()

    with pytest.raises(Torn):
        read_while_it_grows()


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_whose_pieces_have_no_bound_is_refused(tmp_path, packing):
    """FAULTS, hostile input: four kilobytes of bzip2 may become a hundred megabytes at once."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", packing) as made:
        made.writestr("a.csv", bytes(1 << 20))

    with pytest.raises(Refused, match="neither stored nor deflated"):
        unpacked(path)


def test_an_encrypted_archive_is_refused(tmp_path):
    path = archive(tmp_path / "a.zip", {"a.csv": CSV.encode()})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))

    with pytest.raises(Refused, match="packed in a way that is not read"):
        unpacked(path)


def test_memory_does_not_grow_with_the_file():
    rows = (
        f"l{n},charge,r,sbx,2026-01-05T09:30:01Z,19.99,0.88,19.11,USD,po_1\n".encode()
        for n in range(20_000)
    )
    ends = CSV.encode().splitlines(keepends=True)

    def chunks() -> Iterable[bytes]:
        yield ends[0] + ends[1]
        yield from rows
        yield ends[3]

    tracemalloc.start()
    summary = summarise(processor_csv.read(chunks(), Told()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert summary.line_count == 20_000
    assert peak < 1 << 20
