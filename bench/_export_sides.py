"""The sides of bench/export.py, one a process: `side first last file`; charges owed from one day to another.

Each writes the columns of the product's list of charges. What a side says of itself, as JSON: rows, seconds,
and its peak memory in MB, Django and its libraries included.
"""

import csv
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import django

django.setup()

from django.db import connection  # noqa: E402
from django.db.models import Prefetch, QuerySet  # noqa: E402

from checkout.models import Attempt, Charge  # noqa: E402
from settlements.exports.csv_file import write_csv  # noqa: E402
from settlements.exports.export_list import ExportList  # noqa: E402
from settlements.exports.lists import named  # noqa: E402
from settlements.exports.snapshot import snapshot  # noqa: E402
from settlements.exports.xlsx_file import write_xlsx  # noqa: E402

LIST: ExportList = named("charges")
Work = Callable[[], int]


def filters(first: date, last: date) -> dict[str, str]:
    return {"from": first.isoformat(), "to": last.isoformat()}


def query(first: date, last: date) -> str:
    """The product's own columns and rows, without order or guard."""
    columns = ", ".join(f'{each.sql} AS "{each.name}"' for each in LIST.columns)
    return (
        f"SELECT {columns} FROM {LIST.source} WHERE c.billed_at >= '{first}T00:00:00Z'"
        f" AND c.billed_at < '{last}T00:00:00Z'"
    )


def product_csv(first: date, last: date, file: Path) -> Work:
    def work() -> int:
        with snapshot(), file.open("wb") as to:
            return write_csv(wanted=LIST, given=filters(first, last), to=to).head.rows

    return work


def product_xlsx(first: date, last: date, file: Path) -> Work:
    def work() -> int:
        with snapshot():
            return write_xlsx(wanted=LIST, given=filters(first, last), to=file).head.rows

    return work


def bare_copy(first: date, last: date, file: Path) -> Work:
    def work() -> int:
        with connection.cursor() as cursor:
            with (
                file.open("wb") as to,
                cursor.copy(f"COPY ({query(first, last)}) TO STDOUT (FORMAT csv, HEADER)") as copy,
            ):
                for piece in copy:
                    to.write(piece)
            return int(cursor.rowcount)

    return work


def pandas_frame(first: date, last: date, file: Path) -> Work:
    import pandas

    # It would rather be given SQLAlchemy; what it does with the rows is the same.
    warnings.simplefilter("ignore", UserWarning)

    def work() -> int:
        connection.ensure_connection()
        frame = pandas.read_sql(query(first, last), connection.connection)
        frame.to_csv(file, index=False)
        return len(frame)

    return work


def chosen(first: date, last: date) -> "QuerySet[Charge]":
    """As somebody would write it who knows about N+1."""
    captures = Prefetch("attempts", Attempt.objects.filter(outcome="captured"), to_attr="captures")
    span = datetime(*first.timetuple()[:3], tzinfo=UTC), datetime(*last.timetuple()[:3], tzinfo=UTC)
    rows = Charge.objects.filter(billed_at__gte=span[0], billed_at__lt=span[1])
    return rows.select_related("creator", "terms").prefetch_related(captures)


def values_of(charge: Charge) -> Iterator[object]:
    yield from (charge.pk, charge.creator_id, charge.creator.external_id, charge.terms.plan_id)
    yield from (charge.period_start, charge.period_end, charge.billed_at, charge.amount)
    yield from (charge.state, charge.lane)
    captures: list[Attempt] = charge.captures  # type: ignore[attr-defined]
    if captures:
        one = captures[0]
        yield from (one.captured_amount, one.booked_at, one.pk, one.processor_reference)
    else:
        yield from ("", "", "", "")


def orm_loop(first: date, last: date, file: Path) -> Work:
    def work() -> int:
        count = 0
        with file.open("w", newline="", encoding="utf-8") as to:
            writer = csv.writer(to)
            writer.writerow(each.name for each in LIST.columns)
            for charge in chosen(first, last).iterator(chunk_size=2000):
                writer.writerow(values_of(charge))
                count += 1
        return count

    return work


def import_export(first: date, last: date, file: Path) -> Work:
    from import_export import fields, resources

    def of_capture(name: str) -> fields.Field:
        return fields.Field(column_name=name)

    class ChargeResource(resources.ModelResource):  # type: ignore[misc]
        external_id = fields.Field("creator__external_id", "external id")
        plan = fields.Field("terms__plan_id", "plan")
        charge = fields.Field("id", "charge")
        amount = fields.Field("amount", "amount USD")
        captured = of_capture("captured USD")
        captured_at = of_capture("captured at")
        merchant_reference = of_capture("merchant reference")
        processor_reference = of_capture("processor reference")

        class Meta:
            model = Charge
            # Its default of 100 would ask a thousand times, each time from the first row on.
            chunk_size = 20_000
            fields = (
                *("charge", "creator", "external_id", "plan", "period_start", "period_end"),
                *("billed_at", "amount", "state", "lane", "captured", "captured_at"),
                *("merchant_reference", "processor_reference"),
            )

        def dehydrate_captured(self, charge: Charge) -> object:
            return _captured(charge, "captured_amount")

        def dehydrate_captured_at(self, charge: Charge) -> object:
            return _captured(charge, "booked_at")

        def dehydrate_merchant_reference(self, charge: Charge) -> object:
            return _captured(charge, "pk")

        def dehydrate_processor_reference(self, charge: Charge) -> object:
            return _captured(charge, "processor_reference")

    def work() -> int:
        data = ChargeResource().export(queryset=chosen(first, last))
        file.write_text(data.csv, "utf-8")
        return len(data)

    return work


def _captured(charge: Charge, name: str) -> object:
    captures: list[Attempt] = charge.captures  # type: ignore[attr-defined]
    return getattr(captures[0], name) if captures else ""


SIDES: dict[str, Callable[[date, date, Path], Work]] = {
    "product, CSV": product_csv,
    "product, XLSX": product_xlsx,
    "bare COPY": bare_copy,
    "pandas": pandas_frame,
    "ORM and csv.writer": orm_loop,
    "django-import-export": import_export,
}


def main(side: str, first: str, last: str, file: str) -> None:
    work = SIDES[side](date.fromisoformat(first), date.fromisoformat(last), Path(file))
    connection.ensure_connection()
    begun = time.perf_counter()
    rows = work()
    seconds = time.perf_counter() - begun
    print(json.dumps({"rows": rows, "seconds": seconds, "megabytes": peak_megabytes()}))


def peak_megabytes() -> float:
    """Of this program alone: what getrusage says begins with what the process that started it held."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
