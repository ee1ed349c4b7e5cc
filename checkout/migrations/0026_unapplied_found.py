"""Captures that no charge could take are found by an index: the books look for refunds of them."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0025_corrected_of_nobody'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='attempt',
            index=models.Index(condition=models.Q(('outcome', 'unapplied')), fields=['id'], name='attempt_unapplied'),
        ),
    ]
