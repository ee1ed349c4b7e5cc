"""A timetable killed with SIGKILL while a notice is under way: the next one sends it again, same id."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connection

from settlements.models import Notice, NoticeDelivery
from tests.listeners import chat

pytestmark = [pytest.mark.system, pytest.mark.django_db(transaction=True)]


def turn(url: str) -> subprocess.Popen[bytes]:
    """One turn of the job, in a process of its own. A world that never compared has something to tell."""
    database = settings.DATABASE_DIRECT_URL.rpartition("/")[0] + (
        f"/{connection.settings_dict['NAME']}"
    )
    return subprocess.Popen(
        [sys.executable, "manage.py", "timetable", "--once", "--only", "tell_finance"],
        env=os.environ
        | {
            "DATABASE_URL": database,
            "DATABASE_DIRECT_URL": database,
            "FINANCE_WEBHOOK_URL": url,
            "FINANCE_WEBHOOK_SECRET": "shared-with-the-chat",
            # The digest of a day begins with it: a run just before midnight has one more, and no matter.
            "FINANCE_DIGEST_AT": "00:00",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_killed_between_the_send_and_its_mark_it_is_sent_again_with_the_same_id() -> None:
    with chat() as ear:
        first = turn(ear.url)
        # The receiver has the whole notice; its sender dies before it hears so.
        ear.hears = lambda: os.kill(first.pid, signal.SIGKILL)
        assert first.wait(60) == -signal.SIGKILL
        ear.hears = lambda: None
        (killed,) = NoticeDelivery.objects.filter(tries=1)
        assert killed.told_at is None
        # Its minute is over.
        NoticeDelivery.objects.update(next_try_at=datetime.now(UTC) - timedelta(seconds=1))

        assert turn(ear.url).wait(60) == 0

        assert ear.keys[0] == str(killed.notice_id)
        assert ear.keys.count(ear.keys[0]) == 2
        assert len(ear.keys) == Notice.objects.count() + 1
        assert not NoticeDelivery.objects.filter(told_at__isnull=True).exists()
