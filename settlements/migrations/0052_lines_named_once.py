"""Which attempt a refund, or any other line beside charges, names: one rule, with its index."""

from pathlib import Path

from django.db import migrations

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0051_credits_booked'),
    ]

    operations = [
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
