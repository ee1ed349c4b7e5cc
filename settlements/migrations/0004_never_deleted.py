"""Schedules and discrepancies are never deleted (R54); the unread of the topic is quick to find."""

from pathlib import Path

from django.db import migrations

HERE = Path(__file__)


class Migration(migrations.Migration):
    dependencies = [("settlements", "0003_dirty_marks")]
    # Its index is on columns that later moved to a table of their own.
    run_before = [("checkout", "0013_pending_and_published")]
    operations = [
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        )
    ]
