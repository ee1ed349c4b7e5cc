"""What a bulk requeue chooses from, by lane and time."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0020_entries_of_a_lane'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='charge',
            index=models.Index(condition=models.Q(('state', 'exhausted')), fields=['lane', 'last_seen_at'], include=('id', 'awaits'), name='charge_exhausted'),
        ),
    ]
