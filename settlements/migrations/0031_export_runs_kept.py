"""What was asked for and what was made of it stays; a claim that was lost writes nothing."""

from pathlib import Path

from django.db import migrations

HERE = Path(__file__)


class Migration(migrations.Migration):
    dependencies = [("settlements", "0030_export_runs")]
    operations = [
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        )
    ]
