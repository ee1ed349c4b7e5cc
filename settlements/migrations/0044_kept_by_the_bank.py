"""A payout lands with what the bank kept of it, once two people have accepted the difference."""

from pathlib import Path

from django.db import migrations

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0043_finer_marks'),
    ]

    operations = [
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
