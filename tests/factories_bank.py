"""A bank's camt.053 statement, as small as one may be."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

from settlements.banking import BankImported, import_bank_statement
from tests.factories import World

ACCOUNT = "DE89370400440532013000"


@dataclass(frozen=True)
class Credit:
    """One booked entry; below zero it is a debit. `end_to_end` is what the payer called it."""

    amount: str
    day: date
    end_to_end: str = "NOTPROVIDED"
    words: str = ""
    is_reversal: bool = False


def bank_text(credits: Sequence[Credit], *, first: date, last: date, opening: str = "0.00") -> str:
    closing = Decimal(opening) + sum((Decimal(each.amount) for each in credits), Decimal(0))
    entries = "".join(map(_entry, credits))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt>'
        f"<GrpHdr><MsgId>m</MsgId></GrpHdr><Stmt><Id>{first}</Id>"
        f"<Acct><Id><IBAN>{ACCOUNT}</IBAN></Id><Ccy>USD</Ccy></Acct>"
        f"{_balance('OPBD', Decimal(opening), first)}{_balance('CLBD', closing, last)}"
        f"{entries}</Stmt></BkToCstmrStmt></Document>"
    )


def bank_take_in(
    credits: Sequence[Credit],
    *,
    world: World,
    folder: Path,
    first: date,
    last: date,
    opening: str = "0.00",
) -> BankImported:
    path = folder / f"bank-{first}.xml"
    path.write_text(bank_text(credits, first=first, last=last, opening=opening), "utf-8")
    return import_bank_statement(path=path, by="test", now=world.clock.now())


def _balance(kind: str, amount: Decimal, day: date) -> str:
    return (
        f"<Bal><Tp><CdOrPrtry><Cd>{kind}</Cd></CdOrPrtry></Tp>{_amount(amount)}"
        f"<Dt><Dt>{day}</Dt></Dt></Bal>"
    )


def _amount(amount: Decimal) -> str:
    side = "CRDT" if amount >= 0 else "DBIT"
    return f'<Amt Ccy="USD">{abs(amount):.2f}</Amt><CdtDbtInd>{side}</CdtDbtInd>'


def _entry(credit: Credit) -> str:
    reversal = "<RvslInd>true</RvslInd>" if credit.is_reversal else ""
    return (
        f"<Ntry>{_amount(Decimal(credit.amount))}{reversal}<Sts><Cd>BOOK</Cd></Sts>"
        f"<BookgDt><Dt>{credit.day}</Dt></BookgDt><ValDt><Dt>{credit.day}</Dt></ValDt>"
        f"<NtryDtls><TxDtls><Refs><EndToEndId>{credit.end_to_end}</EndToEndId></Refs>"
        f"<RmtInf><Ustrd>{credit.words}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>"
    )
