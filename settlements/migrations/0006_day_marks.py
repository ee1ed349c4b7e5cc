"""A day that is no longer expected is looked at again, whoever removed it (R55)."""

from pathlib import Path

from django.db import migrations

HERE = Path(__file__)


class Migration(migrations.Migration):
    dependencies = [("settlements", "0005_unknown_zones")]
    operations = [
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        )
    ]
