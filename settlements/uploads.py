"""A file that somebody uploads: kept, looked at, and imported once confirmed by its own hash.

Between the two requests it lies in the database, so that any web process can answer the second. A person
has one file under review; the next takes its place, and a day later it is forgotten.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Final, TypeAlias

from django.db import connection

from checkout.clock import Ages, Moment
from settlements.arrivals import Account, KeepTrail, TakenIn, take_in
from settlements.banking import BankPreview, preview_bank_statement
from settlements.formats.lines import Told, amount
from settlements.formats.source import Bounds
from settlements.models import StatementUpload
from settlements.statements import Preview, preview_statement

KEPT: Final = timedelta(days=1)

Accounts: TypeAlias = Mapping[str, Account]


class NotUploaded(Exception):
    """The file that is confirmed is not the one under review."""


def keep_upload(
    *, content: bytes, file_name: str, lane: str, told: Told, by: str, now: Moment
) -> StatementUpload:
    """Keep a file for its review; `lane` is empty for a bank's. What was under review goes.

    Runs in the caller's transaction. Of two that one person sends at once the later stays.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"upload:{by}"])
    StatementUpload.objects.filter(uploaded_by=by).delete()
    return StatementUpload.objects.create(
        sha256=hashlib.sha256(content).hexdigest(),
        uploaded_by=by,
        uploaded_at=now.real,
        file_name=file_name[:255],
        content=content,
        lane=lane,
        told=_as_text(told),
    )


def under_review(*, by: str, sha256: str) -> StatementUpload:
    """The person's file of this hash. Raises NotUploaded."""
    upload = StatementUpload.objects.filter(uploaded_by=by, sha256=sha256).first()
    if upload is None:
        raise NotUploaded("this file is no longer under review; upload it again")
    return upload


def preview_upload(
    *, upload: StatementUpload, accounts: Accounts, now: Moment, bounds: Bounds
) -> Preview | BankPreview:
    """What would become of the file, were it confirmed now. Raises Refused."""
    with _as_file(upload) as path:
        if not upload.lane:
            return preview_bank_statement(
                path=path, by=upload.uploaded_by, name=upload.file_name, now=now, bounds=bounds
            )
        account = accounts[upload.lane]
        return preview_statement(
            path=path,
            processor=account.processor,
            lane=account.lane,
            by=upload.uploaded_by,
            now=now,
            told=_told(upload),
            bounds=bounds,
        )


def confirm_upload(
    *,
    upload: StatementUpload,
    accounts: Accounts,
    now: Moment,
    ages: Ages,
    bounds: Bounds,
    keep_trail: KeepTrail,
) -> TakenIn:
    """Import the file and forget it. Raises Refused. Sent twice, the second finds it imported."""
    with _as_file(upload) as path:
        taken = take_in(
            path=path,
            account=accounts[upload.lane] if upload.lane else None,
            by=upload.uploaded_by,
            now=now,
            ages=ages,
            told=_told(upload),
            bounds=bounds,
            keep_trail=keep_trail,
        )
    upload.delete()
    return taken


def forget_uploads(*, now: Moment) -> int:
    """Delete files nobody confirmed within a day; how many."""
    deleted, _ = StatementUpload.objects.filter(uploaded_at__lt=now.real - KEPT).delete()
    return deleted


@contextmanager
def _as_file(upload: StatementUpload) -> Iterator[Path]:
    """The content under its own name in a folder of its own, for as long as it is read."""
    with tempfile.TemporaryDirectory(prefix="statement-") as folder:
        path = Path(folder) / (Path(upload.file_name).name or "statement")
        path.write_bytes(upload.content)
        yield path


def _as_text(told: Told) -> dict[str, str]:
    given = {
        "first_day": told.first_day,
        "last_day": told.last_day,
        "opening": told.opening,
        "closing": told.closing,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def _told(upload: StatementUpload) -> Told:
    said: Mapping[str, str] = upload.told
    first, last = said.get("first_day"), said.get("last_day")
    return Told(
        first_day=date.fromisoformat(first) if first else None,
        last_day=date.fromisoformat(last) if last else None,
        opening=amount(said.get("opening", "")),
        closing=amount(said.get("closing", "")),
        file_name=upload.file_name,
    )
