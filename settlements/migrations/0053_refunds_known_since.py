"""A file is booked once, and again by what is known since of its refunds, each with a number."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0026_unapplied_found'),
        ('settlements', '0052_lines_named_once'),
    ]

    operations = [
        migrations.AddField(
            model_name='booking',
            name='correction',
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='booking',
            name='statement',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='bookings', to='settlements.statementimport'),
        ),
        migrations.AddConstraint(
            model_name='booking',
            constraint=models.UniqueConstraint(fields=('statement', 'correction'), name='booking_file_once'),
        ),
        migrations.AddConstraint(
            model_name='booking',
            constraint=models.CheckConstraint(condition=models.Q(('correction', 0), models.Q(('adjustments', 0), ('clearing', 0), ('disputes', 0), ('fees', 0), ('statement__isnull', False)), _connector='OR'), name='booking_correction'),
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
