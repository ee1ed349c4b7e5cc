"""A payout is the sum of its parts and lands once, by the bank's own credit."""

from pathlib import Path

from django.db import migrations

HERE = Path(__file__)


class Migration(migrations.Migration):
    dependencies = [("settlements", "0017_payouts")]
    operations = [
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        )
    ]
