"""A lane's default schedule is agreed by a person with the right to, and never rewritten."""

from pathlib import Path

from django.db import migrations

from settlements.roles import settle_roles

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0054_payouts_without_a_name'),
    ]

    operations = [
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
        migrations.RunPython(settle_roles, migrations.RunPython.noop),
    ]
