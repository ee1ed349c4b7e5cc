"""camt.053: read to the cent however it arrives, and refused by its line when it cannot be."""

from collections.abc import Iterable
from dataclasses import fields
from datetime import date
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settlements.formats import camt_lines
from settlements.formats.camt import BankItem, Entry, Statement, read_statements
from settlements.formats.lines import BadRow, Line, Refused, Told, summarise

FILES = Path(__file__).parents[1] / "files" / "statements"
MOCK_BANK = (FILES / "mock-bank-day-1.camt.053.001.08.xml").read_bytes()
GAP = (FILES / "mock-bank-day-2-with-a-gap.camt.053.001.08.xml").read_bytes()
OLD = (FILES / "bank.camt.053.001.02.xml").read_bytes()
PROCESSOR = (FILES / "processor.camt.053.001.14.xml").read_bytes()
NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"
LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))


def read(content: bytes) -> list[BankItem]:
    return list(read_statements([content]))


def entries(items: Iterable[BankItem]) -> list[Entry]:
    return [item for item in items if isinstance(item, Entry)]


def whole(items: Iterable[BankItem]) -> Statement:
    (statement,) = (item for item in items if isinstance(item, Statement))
    return statement


def faults(content: bytes) -> list[str]:
    return [str(item) for item in read(content) if isinstance(item, BadRow)]


# --- What other software wrote ----------------------------------------------------------------------


def test_a_statement_of_mock_bank_is_read_to_the_cent():
    """Written by software that is not ours; two equal credits are two entries (R41)."""
    items = read(MOCK_BANK)

    statement = whole(items)
    assert (statement.version, statement.account) == ("camt.053.001.08", "GB33BUKB20201555555555")
    assert (statement.opening, statement.closing) == (Decimal("0.00"), Decimal("1949.22"))
    assert (statement.first_day, statement.last_day) == (date(2026, 1, 5), date(2026, 1, 5))
    assert (statement.movement, statement.entry_count) == (Decimal("1949.22"), 3)
    assert statement.summary_differs == ""
    payout = entries(items)[0]
    assert (payout.net, payout.end_to_end_id) == (Decimal("1911.00"), "po_cis_20260103")
    assert payout.counterparty == "Sandbox Processor"
    assert payout.remittance == "po_cis_20260103 payout of 3 January"
    assert (payout.code, payout.reference) == ("PMNT/RCDT/ESCT", "MB-RCV-1")
    assert entries(items)[1].remittance == "po_mena_20260103\nRF18539007547034"
    assert entries(items)[2].end_to_end_id == ""


def test_a_statement_with_a_hole_in_it_does_not_add_up():
    """R40: the bank left an entry off; its own balances tell."""
    statement = whole(read(GAP))

    assert statement.opening + statement.movement != statement.closing


def test_the_oldest_version_is_read_with_its_own_spellings():
    """PRCD for an opening, a plain status, names without Pty, amounts without cents, a batch."""
    items = read(OLD)

    statement = whole(items)
    assert (statement.opening, statement.closing) == (Decimal("-112.72"), Decimal("3367.70"))
    assert statement.opening + statement.movement == statement.closing
    assert (statement.entry_count, statement.not_booked) == (2, 1)
    assert (statement.first_day, statement.last_day) == (date(2026, 1, 5), date(2026, 1, 5))
    assert not any(isinstance(item, BadRow) for item in items)
    batch, charge = entries(items)
    assert (batch.payments, batch.end_to_end_id) == (2, "")
    assert batch.remittance == "STRIPE PAYOUT\npo_1NtryA\npo_1NtryB"
    assert batch.counterparty == "Stripe Payments Europe"
    assert (charge.net, charge.is_reversal, charge.code) == (Decimal("-2.58"), True, "NCHG+808")
    assert (charge.remittance, charge.value_on) == ("Entgelt & Porto", None)


def test_a_processors_camt_becomes_lines():
    summary = summarise(camt_lines.read([PROCESSOR], Told()))
    lines = [item for item in camt_lines.read([PROCESSOR], Told()) if isinstance(item, Line)]

    assert (summary.opening, summary.movement, summary.closing) == (
        Decimal("0.00"),
        Decimal("9.11"),
        Decimal("9.11"),
    )
    assert (summary.first_day, summary.last_day) == (date(2026, 1, 5), date(2026, 1, 5))
    assert summary.unknown is None
    assert [(line.type, str(line.net)) for line in lines] == [
        ("charge", "19.99"),
        ("fee", "-0.88"),
        ("payout", "-10.00"),
    ]
    assert lines[0].reference == "6f1c0000-0000-5000-8000-000000000001"
    assert lines[2].payout == "po_cis_20260103"


def test_an_entry_of_a_kind_nobody_agreed_on_sets_the_file_aside():
    """DESIGN section 5: the code itself is shown."""
    other = PROCESSOR.replace(b"<Cd>ICDT</Cd>", b"<Cd>CNTR</Cd>")

    assert summarise(camt_lines.read([other], Told())).unknown == (3, "PMNT/CNTR/ESCT")


def entry_as(code: str, side: str, *, reversal: str = "") -> str:
    """The type of the processor's capture, had its entry this code and side."""
    family, last = code.split("/")
    content = PROCESSOR.decode().replace(
        "<Cd>MCRD</Cd><SubFmlyCd>POSC", "<Cd>X</Cd><SubFmlyCd>X", 1
    )
    content = content.replace("<Cd>X</Cd><SubFmlyCd>X", f"<Cd>{family}</Cd><SubFmlyCd>{last}", 1)
    flag = f"<RvslInd>{reversal}</RvslInd>" if reversal else ""
    content = content.replace(
        "<CdtDbtInd>CRDT</CdtDbtInd>\n        <Sts>", f"<CdtDbtInd>{side}</CdtDbtInd>{flag}<Sts>", 1
    )
    return next(i.type for i in camt_lines.read([content.encode()], Told()) if isinstance(i, Line))


@pytest.mark.parametrize(
    ("code", "side", "kind"),
    [
        ("MCRD/POSC", "CRDT", "charge"),
        ("MCRD/POSP", "DBIT", "refund"),
        ("CCRD/RIMB", "DBIT", "refund"),
        # Unpaid card transaction: what Stripe calls a dispute, and its way back.
        ("MCRD/UPCT", "DBIT", "dispute"),
        ("MCRD/UPCT", "CRDT", "reversal"),
        ("MCRD/DAJT", "DBIT", "adjustment"),
        ("MCRD/CHRG", "DBIT", "fee"),
        ("ICDT/XBCT", "DBIT", "payout"),
        # A payout that came back is of the payout it names.
        ("ICDT/RRTN", "CRDT", "payout"),
        # Nobody agreed on these: a reserve may move so, and anything be called other.
        ("ICDT/BOOK", "DBIT", "PMNT/ICDT/BOOK"),
        ("MCRD/OTHR", "DBIT", "PMNT/MCRD/OTHR"),
        ("MCRD/RIMB", "CRDT", "PMNT/MCRD/RIMB"),
        ("MCRD/NTAV", "CRDT", "PMNT/MCRD/NTAV"),
        ("MDOP/NTAV", "DBIT", "PMNT/MDOP/NTAV"),
    ],
)
def test_each_code_is_a_line_type_or_sets_the_file_aside(code, side, kind):
    assert entry_as(code, side) == kind


@pytest.mark.parametrize(
    ("code", "side", "kind"),
    [
        ("MCRD/POSC", "CRDT", "refund"),  # a refund that came back, above zero
        ("MCRD/POSC", "DBIT", "reversal"),  # a capture that was taken back
        ("CCRD/RIMB", "CRDT", "refund"),
        ("CCRD/RIMB", "DBIT", "reversal"),  # nobody knows of what
        ("MCRD/UPCT", "DBIT", "reversal"),
        ("MCRD/CHRG", "CRDT", "fee"),
        ("ICDT/ESCT", "CRDT", "payout"),
        ("MCRD/OTHR", "CRDT", "PMNT/MCRD/OTHR"),
    ],
)
@pytest.mark.parametrize("flag", ["true", "1"])
def test_what_is_reversed_is_never_a_charge(code, side, kind, flag):
    """RvslInd: a refund taken back is a credit of the same code as a capture."""
    assert entry_as(code, side, reversal=flag) == kind


@pytest.mark.parametrize(
    ("booked", "zone", "says"),
    [
        ("2026-01-06T09:30:01Z", "UTC", "booked on 2026-01-06"),
        ("2026-01-04T23:59:59Z", "UTC", "booked on 2026-01-04"),
        # 22:00 UTC is the next day in Almaty, whose days are the lane's.
        ("2026-01-05T22:00:00Z", "Asia/Almaty", "booked on 2026-01-06"),
    ],
)
def test_an_entry_outside_the_statements_days_is_refused_with_its_place(booked, zone, says):
    """R53: it would be proof of a day that the file does not cover."""
    content = PROCESSOR.replace(b"2026-01-05T12:00:00Z", booked.encode())
    with pytest.raises(Refused) as refused:
        summarise(camt_lines.read([content], Told(zone=ZoneInfo(zone))))

    (bad,) = refused.value.bad
    assert bad.reason == f"entry 3: {says}, but the statement covers 2026-01-05 to 2026-01-05"
    assert PROCESSOR.splitlines()[bad.number - 1].strip() == b"</Ntry>"


# --- However it arrives -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_split_of_the_stream_gives_the_same(data):
    content = data.draw(st.sampled_from([MOCK_BANK, OLD, PROCESSOR]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=12)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]

    assert list(read_statements(pieces)) == read(content)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(MOCK_BANK) - 1))
def test_a_file_that_breaks_off_is_refused_wherever_it_does(end):
    """Truncated: never a statement short of what was cut away."""
    assert faults(MOCK_BANK[:end])
    with pytest.raises(Refused):
        summarise(camt_lines.read([MOCK_BANK[:end]], Told()))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_fail(content):
    for item in read_statements([b"<Document>", content]):
        assert isinstance(item, BadRow | Entry | Statement)


def test_no_amount_is_ever_a_float():
    """R8."""
    for item in [*read(MOCK_BANK), *read(OLD)]:
        assert not any(isinstance(getattr(item, each.name), float) for each in fields(item))


# --- Refused, with what to do -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "written", ["", " ", "19.999", "1e3", "-19.11", "+19.11", "019.11", "NaN", "1_9", "１９"]
)
def test_what_is_not_an_amount_is_refused_never_read_as_zero(written):
    """R2, R3, R39: the bad entry is named with its number and the file's line."""
    content = MOCK_BANK.replace(b'"USD">19.11<', f'"USD">{written}<'.encode(), 1)

    assert "entry 2" in faults(content)[0]
    assert "is not an amount" in faults(content)[0]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'<Ntry><Amt Ccy="USD">', b'<Ntry><Amt Ccy="EUR">', "currency 'EUR' is not USD"),
        (b'<Amt Ccy="USD">0.00</Amt>', b'<Amt Ccy="EUR">0.00</Amt>', "currency 'EUR' is not USD"),
        (b"<BookgDt><Dt>2026-01-05", b"<BookgDt><Dt>2026-13-05", "is not a date"),
        (b"<ValDt><Dt>2026-01-05", b"<ValDt><Dt>05.01.2026", "value date"),
        (b"<CdtDbtInd>CRDT</CdtDbtInd><Sts>", b"<CdtDbtInd>CR</CdtDbtInd><Sts>", "neither CRDT"),
        (b"<Cd>OPBD</Cd>", b"<Cd>OPAV</Cd>", "no opening booked balance"),
        (b"<Cd>CLBD</Cd>", b"<Cd>CLAV</Cd>", "no closing booked balance"),
        (b"<Cd>CLBD</Cd>", b"<Cd>OPBD</Cd>", "a second one"),
        (b"<IBAN>GB33BUKB20201555555555</IBAN>", b"", "names no account"),
        (b"<AcctSvcrRef>MB-RCV-1", b"<AcctSvcrRef>" + b"x" * 129, "longer than 128"),
        (b"<Ustrd>", b"<Ustrd>" + b"x" * 10_001, "a text is longer than"),
        (b"camt.053.001.08", b"camt.053.001.03", "it is a camt.053.001.03; read are"),
        (b"camt.053.001.08", b"camt.054.001.08", "no statement"),
        (b"urn:iso:std:iso:20022:tech:xsd:camt.053.001.08", b"urn:other", "not camt.053"),
        (b"encoding='utf-8'", b"encoding='iso-8859-1'", "ISO 20022 is UTF-8"),
        (b"<Nm>Sandbox", b"<Nm>S\xe9ndbox", "not well-formed XML"),
    ],
)  # fmt: skip
def test_a_bad_file_says_what_is_wrong_with_it(old, new, says):
    assert old in MOCK_BANK
    assert any(says in text for text in faults(MOCK_BANK.replace(old, new, 1)))


def test_a_summary_that_differs_from_the_entries_is_told():
    """R40."""
    fewer = MOCK_BANK.replace(b"<NbOfNtries>3<", b"<NbOfNtries>4<", 1)
    more = MOCK_BANK.replace(b"<Sum>1949.22<", b"<Sum>1949.23<", 1)

    assert "counts 4 entries, but there are 3" in whole(read(fewer)).summary_differs
    assert "adds up to 1949.23" in whole(read(more)).summary_differs


def test_a_page_of_several_is_refused():
    paged = PROCESSOR.replace(b"<LastPgInd>true", b"<LastPgInd>false")

    assert "ask the bank for the statement in one" in faults(paged)[0]


@pytest.mark.parametrize(
    ("name", "prologue", "says"),
    [
        ("billion laughs", f'<!DOCTYPE d [<!ENTITY l0 "ha">{LAUGHS}]>', "document type"),
        ("external entity", '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "document type"),
        ("external DTD", '<!DOCTYPE d SYSTEM "http://127.0.0.1:1/evil.dtd">', "document type"),
        ("parameter entity", '<!DOCTYPE d [<!ENTITY % p SYSTEM "http://127.0.0.1:1/">%p;]>', "document type"),
        ("deep nesting", "<a>" * 10, "not well-formed|not camt"),
    ],
)  # fmt: skip
def test_hostile_xml_is_refused_before_anything_of_it_is_followed(name, prologue, says):
    """FAULTS, hostile input: no entity is declared, so none is expanded or fetched."""
    content = prologue.encode() + f'<Document xmlns="{NAMESPACE}">&l9;&x;</Document>'.encode()

    (fault,) = faults(content)
    assert any(each in fault for each in says.split("|"))
    assert len(fault) < 300


def test_elements_nested_without_end_are_refused():
    deep = f'<Document xmlns="{NAMESPACE}">'.encode() + b"<a>" * 100_000

    assert "nested more than 40 deep" in faults(deep)[0]


def test_a_tag_without_an_end_does_not_fill_the_memory():
    def endless() -> Iterable[bytes]:
        yield f'<Document xmlns="{NAMESPACE}" a="'.encode()
        while True:
            yield b"x" * 65_536

    (fault,) = list(read_statements(endless()))
    assert "longer than a megabyte" in str(fault)
