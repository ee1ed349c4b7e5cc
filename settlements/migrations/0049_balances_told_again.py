"""A closing that was mistyped is told again, of a file that is set aside, and is no rewritten row."""

from pathlib import Path

from django.db import migrations

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0048_kept_when_it_lands'),
    ]

    operations = [
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
