"""The sides of bench/import_statement.py, one a process: `side kind folder number lines`."""

import csv
import json
import resource
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from uuid import UUID

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402

from checkout.clock import Ages, Clock  # noqa: E402
from settlements.banking import import_bank_statement  # noqa: E402
from settlements.formats.source import Bounds  # noqa: E402
from settlements.models import BankEntry, StatementImport, StatementLine  # noqa: E402
from settlements.statements import import_statement  # noqa: E402

HEADER = "line_id,type,reference,processor_reference,booked_at,gross,fee,net,currency,payout\n"
ENTRY = (
    '<Ntry><NtryRef>{n}</NtryRef><Amt Ccy="USD">19.99</Amt><CdtDbtInd>CRDT</CdtDbtInd>'
    "<Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-01-05</Dt></BookgDt><ValDt><Dt>2026-01-05</Dt></ValDt>"
    "<AcctSvcrRef>MB-RCV-{n}</AcctSvcrRef><BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>RCDT</Cd>"
    "<SubFmlyCd>ESCT</SubFmlyCd></Fmly></Domn></BkTxCd><NtryDtls><TxDtls><Refs><EndToEndId>po_{n}"
    '</EndToEndId></Refs><Amt Ccy="USD">19.99</Amt><CdtDbtInd>CRDT</CdtDbtInd><RltdPties><Dbtr><Pty>'
    "<Nm>Sandbox Processor</Nm></Pty></Dbtr></RltdPties><RmtInf><Ustrd>po_{n} payout</Ustrd></RmtInf>"
    "</TxDtls></NtryDtls></Ntry>\n"
)
COLUMNS = {
    "csv": "number, key, line_id, type, reference, processor_reference, booked_at, gross, fee, net, currency, payout",
    "camt": "number, booked_on, value_on, amount, side, currency, is_reversal, reference, entry_reference,"
    " end_to_end_id, code, counterparty, remittance, payments",
}
TABLES: dict[str, type[StatementLine | BankEntry]] = {"csv": StatementLine, "camt": BankEntry}


def write_csv(path: Path, lines: int) -> None:
    total = Decimal("19.11") * lines
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER + "o,opening,,,2026-01-05T00:00:00Z,0.00,0.00,0.00,USD,\n")
        for n in range(lines):
            reference = UUID(int=(5 << 76) | (8 << 60) | n)
            second = n * 86_399 // lines
            at = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            file.write(
                f"ln_{n},charge,{reference},sbx_{n},2026-01-05T{at}Z,19.99,0.88,19.11,USD,po_1\n"
            )
        file.write(f"c,closing,,,2026-01-06T00:00:00Z,0.00,0.00,{total:.2f},USD,\n")


def write_camt(path: Path, lines: int) -> None:
    total = Decimal("19.99") * lines
    balance = (
        "<Bal><Tp><CdOrPrtry><Cd>{}</Cd></CdOrPrtry></Tp>"
        '<Amt Ccy="USD">{:.2f}</Amt><CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>2026-01-05</Dt></Dt></Bal>'
    )
    with path.open("w", encoding="utf-8") as file:
        file.write(
            '<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:'
            f'camt.053.001.08"><BkToCstmrStmt><Stmt><Id>{path.stem}</Id><Acct><Id><Othr><Id>{path.stem}'
            f"</Id></Othr></Id></Acct>{balance.format('OPBD', 0)}{balance.format('CLBD', total)}"
        )
        for n in range(lines):
            file.write(ENTRY.format(n=n))
        file.write("</Stmt></BkToCstmrStmt></Document>")


def product(kind: str, folder: Path, number: int, lines: int) -> Callable[[], object]:
    path = folder / f"{kind}-{number}"
    {"csv": write_csv, "camt": write_camt}[kind](path, lines)
    now, bounds = Clock().now(), Bounds(largest_bytes=4 << 30)
    if kind == "camt":
        return lambda: import_bank_statement(path=path, by="bench", now=now, bounds=bounds)
    return lambda: import_statement(
        path=path,
        processor="bench",
        lane=f"bench-{number}",
        by="bench",
        now=now,
        ages=Ages(),
        bounds=bounds,
    )


def bare_copy(kind: str, folder: Path, number: int, _lines: int) -> Callable[[], object]:
    """The rows the product has just stored, rendered beforehand, into the same table again."""
    table, rendered = TABLES[kind], folder / "rendered"
    statement = table._default_manager.order_by("-id")[0].statement
    stored, statement.pk = statement.pk, None
    statement.sha256 = f"{number}-copy"
    statement.state, statement.reason, statement.accepted_at = "quarantined", "bench", None
    statement.save(force_insert=True)
    name, columns = table._meta.db_table, COLUMNS[kind]
    select = (
        f"SELECT {statement.pk}, {columns} FROM {name} WHERE statement_id = {stored} ORDER BY id"
    )
    with (
        connection.cursor() as cursor,
        rendered.open("wb") as file,
        cursor.copy(f"COPY ({select}) TO STDOUT") as out,
    ):
        for block in out:
            file.write(block)

    def copy() -> None:
        with (
            transaction.atomic(),
            connection.cursor() as cursor,
            rendered.open("rb") as file,
            cursor.copy(f"COPY {name} (statement_id, {columns}) FROM STDIN") as into,
        ):
            while block := file.read(1 << 16):
                into.write(block)

    return copy


def orm(kind: str, folder: Path, number: int, lines: int, *, batch: int) -> Callable[[], object]:
    """Rows out of the same file through the ORM, in one transaction; nothing is checked or added up."""
    statement = StatementImport.objects.create(
        processor="bench",
        lane=f"orm-{batch}-{number}",
        sha256=f"{number}-{batch}",
        first_day=date(2026, 1, 5),
        last_day=date(2026, 1, 5),
        opening=0,
        closing=0,
        movement=0,
        line_count=lines,
        state="quarantined",
        reason="bench",
        imported_by="bench",
        imported_at=datetime.now(UTC),
    )

    def rows() -> None:
        with transaction.atomic(), (folder / f"{kind}-{number}").open(encoding="utf-8") as file:
            wanted = (row for row in csv.DictReader(file) if row["type"] == "charge")
            numbered = enumerate(islice(wanted, lines))
            while pack := [made_of(row, place) for place, row in islice(numbered, batch)]:
                if batch == 1:
                    pack[0].save(force_insert=True)
                else:
                    StatementLine.objects.bulk_create(pack)

    def made_of(row: dict[str, str], place: int) -> StatementLine:
        return StatementLine(
            statement=statement,
            number=place,
            key=UUID(row["reference"]),
            line_id=row["line_id"],
            type=row["type"],
            reference=row["reference"],
            processor_reference=row["processor_reference"],
            booked_at=datetime.fromisoformat(row["booked_at"]),
            gross=Decimal(row["gross"]),
            fee=Decimal(row["fee"]),
            net=Decimal(row["net"]),
            currency=row["currency"],
            payout=row["payout"],
        )

    return rows


def main(side: str, kind: str, folder: Path, number: int, lines: int) -> None:
    if side == "prepare":
        call_command("migrate", verbosity=0)
        print(json.dumps({"rows": 0, "seconds": 1.0, "megabytes": 0.0}))
        return
    sides: dict[str, Callable[[str, Path, int, int], Callable[[], object]]] = {
        "product": product,
        "bare COPY": bare_copy,
        "ORM, bulk_create": partial(orm, batch=1000),
        "ORM, one by one": partial(orm, batch=1),
    }
    work = sides[side](kind, folder, number, lines)
    begun = time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": lines, "seconds": seconds, "megabytes": megabytes}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
