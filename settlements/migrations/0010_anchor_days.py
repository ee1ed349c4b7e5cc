"""A schedule has several anchor days, up to the 31st, and a calendar; a version is never rewritten.

The column anchor_day stays, filled by a trigger, as long as the version before may still run.
"""

from pathlib import Path

import django.contrib.postgres.fields
from django.db import migrations, models

HERE = Path(__file__)


def _several(model, constraint):
    return [
        migrations.RemoveConstraint(model_name=model, name=constraint),
        migrations.RemoveField(model_name=model, name="anchor_day"),
        migrations.AddField(
            model_name=model,
            name="anchor_days",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.SmallIntegerField(), size=None
            ),
        ),
        migrations.AddField(
            model_name=model,
            name="calendar",
            field=models.CharField(default="us-fed", max_length=40),
        ),
    ]


class Migration(migrations.Migration):
    dependencies = [("settlements", "0009_statement_terms")]
    operations = [
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(),
            HERE.with_suffix(".down.sql").read_text(),
            state_operations=[
                *_several("routeschedule", "route_schedule_anchor"),
                *_several("settlementschedule", "schedule_anchor"),
            ],
        )
    ]
