"""Marks name the charge that changed, or say which part of a creator did; a run says what it read."""

from pathlib import Path

from django.db import migrations, models

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0042_export_totals'),
    ]

    operations = [
        migrations.AddField(
            model_name='reconciliationrun',
            name='topic_read_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
