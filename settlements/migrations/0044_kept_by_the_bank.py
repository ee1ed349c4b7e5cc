"""A payout lands with what the bank kept of it, once two people have accepted the difference."""

from pathlib import Path

from django.db import migrations, models

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0043_finer_marks'),
    ]

    operations = [
        migrations.AddField(
            model_name='payout',
            name='kept',
            field=models.DecimalField(db_default=0, decimal_places=2, default=0, max_digits=14),
        ),
        migrations.AddConstraint(
            model_name='payout',
            constraint=models.CheckConstraint(condition=models.Q(('kept', 0), models.Q(('kept__gt', 0), ('kept__lt', models.F('paid')), ('landed_on__isnull', False)), _connector='OR'), name='payout_kept'),
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
