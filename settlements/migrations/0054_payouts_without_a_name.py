"""A payout line that names no payout is found by an index of its own, on every pass."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0053_refunds_known_since'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='statementline',
            index=models.Index(condition=models.Q(('payout', ''), ('type', 'payout')), fields=['statement'], name='line_unnamed_payout'),
        ),
    ]
