"""A resolution whose approval was edited away stands again, and stops no pass."""

from pathlib import Path

from django.db import migrations

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0044_kept_by_the_bank'),
    ]

    operations = [
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
