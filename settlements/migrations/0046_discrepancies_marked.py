"""A discrepancy that somebody but a pass clears or deletes is looked at again."""

from pathlib import Path

from django.db import migrations

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0045_approval_gone'),
    ]

    operations = [
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
