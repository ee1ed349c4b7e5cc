"""The sides of bench/reconcile.py, one a process: `side charges round` (for `prepare`: months); each prints what it measured."""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.models import Count, Sum  # noqa: E402

from bench._crowd import load, named_faults  # noqa: E402
from checkout.clock import Ages, Clock  # noqa: E402
from checkout.models import Attempt  # noqa: E402
from settlements import reconciliation  # noqa: E402
from settlements.models import Discrepancy, FeeTerms, Kind, StatementLine  # noqa: E402

CLOCK: Final = Clock()
AGES: Final = Ages()
FAULTS: Final = 100
CENTS: Final = 10  # of the rows that changed before an incremental pass
ORM_SAMPLE: Final = 2_000
STATEMENT: Final = ("statement",)

# What a work returns: the rows it looked at, and what it found.
Done = tuple[int, set[str]]


# --- The comparison of captures with lines, four ways ----------------------------------------------


def full_statement(charges: int) -> Done:
    """The product, one comparison: every slice compared, recorded and cleared."""
    reconciliation.reconcile(kinds=[Kind.STATEMENT], clock=CLOCK, ages=AGES)
    return charges, standing(*STATEMENT)


def bare_statement(charges: int) -> Done:
    """One statement, as a person would type it: joined once, nothing recorded."""
    with connection.cursor() as cursor:
        cursor.execute("SET jit = off")
        cursor.execute("SET work_mem = '64MB'")
        cursor.execute(_BARE)
        return charges, {fingerprint for (fingerprint,) in cursor.fetchall()}


_BARE: Final = """
    WITH lines AS (
      SELECT l.key, count(*) AS times, sum(l.gross) AS gross, sum(l.fee) AS fee, min(f.lane) AS lane,
             min(l.booked_at) AS booked_at, min(l.id) AS id
      FROM settlements_statementline l
      JOIN settlements_statementimport f ON f.id = l.statement_id AND f.state = 'accepted'
      WHERE l.type = 'charge' GROUP BY l.key
    ), compared AS (
      SELECT CASE
        WHEN a.id IS NULL THEN 'unmatched:' || l.id
        WHEN a.outcome NOT IN ('captured', 'unapplied') THEN
          CASE WHEN l.key IS NOT NULL AND a.outcome <> 'open' THEN 'not_captured:' || a.id END
        WHEN l.key IS NULL THEN CASE WHEN d.id IS NOT NULL THEN 'missing:' || a.id END
        WHEN l.times > 1 THEN 'duplicate:' || a.id
        WHEN l.gross <> a.captured_amount THEN 'amount:' || a.id
        WHEN l.lane <> a.lane THEN 'lane:' || a.id
        WHEN l.fee <> round(a.captured_amount * t.rate + t.fixed, 2) THEN 'fee:' || a.id
      END AS found
      FROM checkout_attempt a
      FULL JOIN lines l ON l.key = a.id
      LEFT JOIN settlements_statementexpectation d ON d.lane = a.lane AND d.state = 'arrived'
        AND d.day = (coalesce(a.booked_at, a.ended_at) AT TIME ZONE 'UTC')::date
      LEFT JOIN settlements_feeterms t ON t.lane = a.lane
    )
    SELECT 'statement:' || found FROM compared WHERE found IS NOT NULL
"""


def pandas_merge(charges: int) -> Done:
    """Both tables in memory, amounts as whole cents, merged once."""
    pandas = importlib.import_module("pandas")  # requirements/bench.txt alone has it

    def frame(sql: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            names = [column.name for column in cursor.description]
            return pandas.DataFrame(cursor.fetchall(), columns=names)

    attempts = frame(
        "SELECT id::text AS key, (captured_amount * 100)::bigint AS captured, lane"
        " FROM checkout_attempt WHERE outcome IN ('captured', 'unapplied')"
    )
    lines = frame(
        "SELECT l.key::text, (l.gross * 100)::bigint AS gross, (l.fee * 100)::bigint AS fee,"
        " f.lane AS stated, l.id FROM settlements_statementline l"
        " JOIN settlements_statementimport f ON f.id = l.statement_id AND f.state = 'accepted'"
        " WHERE l.type = 'charge'"
    )
    summed = lines.groupby("key", sort=False).agg(
        gross=("gross", "sum"), fee=("fee", "sum"), times=("id", "size"), id=("id", "min")
    )
    both = attempts.merge(summed, left_on="key", right_index=True, how="outer", indicator=True)
    found = {f"statement:missing:{key}" for key in both[both["_merge"] == "left_only"]["key"]}
    unknown = both[both["_merge"] == "right_only"]["id"]
    found |= {f"statement:unmatched:{int(id)}" for id in unknown}
    met = both[both["_merge"] == "both"]
    found |= {f"statement:duplicate:{key}" for key in met[met["times"] > 1]["key"]}
    off = met[(met["times"] == 1) & (met["gross"] != met["captured"])]
    return charges, found | {f"statement:amount:{key}" for key in off["key"]}


def orm_loop(_charges: int) -> Done:
    """One capture at a time, on the first so many: its lines, their sum, its fee."""
    fees = {terms.lane: terms for terms in FeeTerms.objects.all()}
    found = set()
    for attempt in Attempt.objects.filter(outcome="captured").order_by("id")[:ORM_SAMPLE]:
        lines = StatementLine.objects.filter(
            key=attempt.pk, type="charge", statement__state="accepted"
        ).aggregate(times=Count("id"), gross=Sum("gross"), fee=Sum("fee"))
        terms, captured = fees[attempt.lane], attempt.captured_amount or Decimal(0)
        if lines["times"] != 1:
            code = "duplicate" if lines["times"] else "missing"
        elif lines["gross"] != captured:
            code = "amount"
        elif lines["fee"] != round(captured * terms.rate + terms.fixed, 2):
            code = "fee"
        else:
            continue
        found.add(f"statement:{code}:{attempt.pk}")
    return ORM_SAMPLE, found


# --- All comparisons -----------------------------------------------------------------------------


def full_all(charges: int) -> Done:
    """The product's full pass; it begins with what is marked, here nothing."""
    reconciliation.reconcile(clock=CLOCK, ages=AGES)
    return charges, standing()


def bare_all(charges: int) -> Done:
    """The same statements over everything at once: no slices, nothing recorded or cleared."""
    now = CLOCK.now()
    found = reconciliation.look(as_of=now.business, now=now)
    return charges, {each.fingerprint for each in found}


def prepare_incremental(charges: int, number: int) -> set[str]:
    """Change a hundredth of the captures, a cent of some; what must stand besides then."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(_CHANGE, {"rows": charges // 100, "cents": CENTS, "number": str(number)})
        changed = cursor.fetchall()
        cursor.execute("SET LOCAL session_replication_role = origin")
    return {
        f"{code}:{charge if by == 'charge' else attempt}"
        for attempt, charge in changed
        for code, by in _CHANGED_NAMED
    }


def incremental(charges: int) -> Done:
    """The product's pass over what changed."""
    reconciliation.reconcile_incremental(clock=CLOCK, ages=AGES)
    return charges // 100, standing()


_CHANGED_NAMED: Final = (
    ("captured:under_charge", "charge"),
    ("ledger:receivable", "charge"),
    ("ledger:amount", "attempt"),
    ("statement:amount", "attempt"),
)
# Ids are scattered, so an order by them is a random choice. Creators with a fault are left out.
_CHANGE: Final = """
    WITH chosen AS (
      SELECT id, row_number() OVER (ORDER BY md5(id || %(number)s)) <= %(cents)s AS is_short
      FROM checkout_attempt WHERE creator_id NOT IN (SELECT creator_id FROM crowd_fault)
      ORDER BY md5(id || %(number)s) LIMIT %(rows)s
    ), changed AS (
      UPDATE checkout_attempt a SET queries = queries + 1,
        captured_amount = captured_amount - CASE WHEN c.is_short THEN 0.01 ELSE 0.00 END
      FROM chosen c WHERE c.id = a.id
      RETURNING a.id, a.charge_id, c.is_short
    )
    SELECT id, charge_id FROM changed WHERE is_short
"""
_PUT_BACK: Final = """
    UPDATE checkout_attempt a SET captured_amount = c.amount FROM checkout_charge c
    WHERE c.id = a.charge_id AND a.captured_amount <> c.amount
      AND a.id NOT IN (SELECT attempt_id FROM crowd_fault)
"""


def put_back() -> set[str]:
    """As before, and what stands after the next pass."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(_PUT_BACK)
        cursor.execute("SET LOCAL session_replication_role = origin")
    reconciliation.reconcile_incremental(clock=CLOCK, ages=AGES)
    return standing()


# --- What every side tells -------------------------------------------------------------------------


def standing(*kinds: str) -> set[str]:
    rows = Discrepancy.objects.filter(cleared_at__isnull=True)
    return set(
        (rows.filter(kind__in=kinds) if kinds else rows).values_list("fingerprint", flat=True)
    )


def wanted(*kinds: str) -> set[str]:
    return {name for name in named_faults() if not kinds or name.partition(":")[0] in kinds}


SIDES: Final[dict[str, Callable[[int], Done]]] = {
    "full pass, captures and lines": full_statement,
    "bare SQL, captures and lines": bare_statement,
    "pandas, captures and lines": pandas_merge,
    "ORM loop, captures and lines": orm_loop,
    "full pass, all seven": full_all,
    "the same SQL at once, all seven": bare_all,
    "incremental pass": incremental,
}


def measure(side: str, charges: int, number: int) -> dict[str, object]:
    """Run one side; `exact` says whether it found what it must, and nothing else."""
    must = wanted(*(STATEMENT if "lines" in side else ()))
    if side == "incremental pass":
        must |= prepare_incremental(charges, number)
    tell({"begins": True})
    begun = time.perf_counter()
    rows, found = SIDES[side](charges)
    seconds = time.perf_counter() - begun
    exact = found == must if rows != ORM_SAMPLE else found <= must
    wrong = sorted(found ^ must)[:5] if not exact else []
    if side == "incremental pass":
        exact = (put_back() == wanted()) and exact
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": rows,
        "seconds": seconds,
        "megabytes": megabytes,
        "exact": exact,
        "wrong": wrong,
    }


def tell(what: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


def prepare(charges: int, months: int) -> None:
    """The tables and the crowd; tells how far it is."""
    call_command("migrate", verbosity=0)
    done = 0

    def progress(more: int) -> None:
        nonlocal done
        done += more
        tell({"done": done})

    load(
        charges=charges,
        today=CLOCK.business_now().date(),
        faults=FAULTS,
        months=months,
        progress=progress,
    )
    # What is wrong from the start stands, and the tables are in memory as far as they fit.
    reconciliation.reconcile(clock=CLOCK, ages=AGES)


def watch() -> None:
    """Incremental passes as often as the timetable runs them, until somebody ends this process."""
    while True:
        begun = time.perf_counter()
        reconciliation.reconcile_incremental(clock=CLOCK, ages=AGES)
        CLOCK.sleep(max(0.0, AGES.reconcile_every - (time.perf_counter() - begun)))


def main(side: str, charges: int, number: int) -> None:
    if side == "prepare":
        prepare(charges, number)
    elif side == "watch":
        watch()
    else:
        tell(measure(side, charges, number))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
