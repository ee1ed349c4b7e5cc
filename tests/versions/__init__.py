"""What the version before wrote, so that a test can hold this one against it (F26; docs/decisions/0008).

`before.json` holds one dispatch as SQS carries it, the schema of each event type, and the columns of each
table. It is recorded anew when a version is released: `RECORD_VERSION=1 pytest tests/integration/test_versions.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("before.json")
# What a schema says about data; title, description and $id are for people.
SAYS: Final = ("type", "properties", "required", "additionalProperties")
# A value for each name that an event's data knows; a constant or a list of values speaks for itself.
SAMPLES: Final[Mapping[str, Any]] = {
    "plan": "monthly",
    "amount": "19.99",
    "captured_amount": "19.99",
    "price": "19.99",
    "round": 1,
    "number": 2,
    "period_start": "2026-01-31",
    "period_end": "2026-02-28",
    "starts_on": "2026-02-28",
    "occurred_at": "2026-01-31T12:00:00+00:00",
    "next_round_at": "2026-02-03T12:00:00+00:00",
    "lands_on": "2026-03-03",
    **dict.fromkeys(
        ("charged", "unapplied", "refunded", "disputed", "fees", "adjusted", "net"), "-0.88"
    ),
    "lines": 2,
}
AN_ID: Final = "00000000-0000-5000-8000-000000000001"


@dataclass(frozen=True)
class Column:
    """A column as an INSERT that does not name it sees it: with nothing to fill it, it must be nullable."""

    type: str
    nullable: bool
    filled: bool


@dataclass(frozen=True)
class Version:
    """What one version writes."""

    dispatch: str
    schemas: Mapping[str, Mapping[str, Any]]
    columns: Mapping[str, Mapping[str, Column]]

    def write(self) -> None:
        FILE.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", "utf-8")

    @classmethod
    def before(cls) -> "Version":
        read = json.loads(FILE.read_text("utf-8"))
        columns = {
            table: {name: Column(**facts) for name, facts in columns.items()}
            for table, columns in read["columns"].items()
        }
        return cls(read["dispatch"], read["schemas"], columns)


def said_by(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a schema that decides which data it takes."""
    return {name: schema[name] for name in SAYS}


def sample(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Data that a schema takes."""
    return {name: _value(name, says) for name, says in schema["properties"].items()}


def _value(name: str, says: Mapping[str, Any]) -> Any:
    if "const" in says:
        return says["const"]
    if "enum" in says:
        return says["enum"][0]
    return AN_ID if name.endswith("_id") else SAMPLES[name]


def unlike(before: Version, now: Version) -> list[str]:
    """What this version does that the one before could not read, or the reverse."""
    found = []
    for type, schema in before.schemas.items():
        if type not in now.schemas:
            found.append(f"event {type} is gone: its rows in the outbox could not be sent")
        elif said_by(schema) != said_by(now.schemas[type]):
            found.append(f"event {type} takes other data under the same version")
    for table, columns in before.columns.items():
        found += _columns_unlike(table, columns, now.columns.get(table, {}))
    return found


def _columns_unlike(
    table: str, before: Mapping[str, Column], now: Mapping[str, Column]
) -> list[str]:
    found = []
    for name, column in before.items():
        if name not in now:
            found.append(f"{table}.{name} is gone")
        elif now[name].type != column.type:
            found.append(f"{table}.{name} was {column.type}, is {now[name].type}")
        elif column.nullable and not now[name].nullable:
            found.append(f"{table}.{name} must not be null any more")
    found += [
        f"{table}.{name} is new, and an INSERT that does not know it is refused"
        for name, column in now.items()
        if name not in before and not (column.nullable or column.filled)
    ]
    return found
