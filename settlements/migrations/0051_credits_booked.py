"""Each credit of a payout is booked by itself; what was booked with its payout names it, too.

Backwards only while no credit stands by itself: the former constraint refuses what it did not know.
"""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0022_log_entries'),
        ('settlements', '0050_export_more_lists'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='booking',
            name='booking_of_one_thing',
        ),
        migrations.AddField(
            model_name='booking',
            name='credit',
            field=models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='booking', to='settlements.payoutcredit'),
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
        migrations.AddConstraint(
            model_name='booking',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('cash', 0), ('credit__isnull', True), ('payout__isnull', True), ('statement__isnull', False)), models.Q(('adjustments', 0), ('disputes', 0), ('refunds', 0), ('statement__isnull', True), ('unapplied_receipts', 0), models.Q(('credit__isnull', False), models.Q(('cash', 0), ('payout__isnull', False)), _connector='OR'), models.Q(('payout__isnull', False), ('fees', 0), _connector='OR')), _connector='OR'), name='booking_of_one_thing'),
        ),
    ]
