"""Kept figures of charges and attempts, so that no page counts the tables (R47)."""

from pathlib import Path

from django.db import migrations, models


HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0015_corrected_entries'),
    ]

    operations = [
        migrations.CreateModel(
            name='AttemptTally',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('slot', models.DateTimeField()),
                ('lane', models.CharField(max_length=40)),
                ('outcome', models.CharField(max_length=11)),
                ('decline_class', models.CharField(blank=True, default='', max_length=15)),
                ('count', models.IntegerField()),
                ('usd', models.DecimalField(decimal_places=2, max_digits=14)),
                ('is_folded', models.BooleanField(default=False)),
            ],
            options={
                'verbose_name_plural': 'attempt tallies',
                'indexes': [models.Index(fields=['slot', 'lane', 'outcome'], name='attempt_tally_key'), models.Index(condition=models.Q(('is_folded', False)), fields=['slot'], name='attempt_tally_to_fold')],
            },
        ),
        migrations.CreateModel(
            name='ChargeTally',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('day', models.DateField()),
                ('lane', models.CharField(max_length=40)),
                ('state', models.CharField(max_length=17)),
                ('count', models.IntegerField()),
                ('usd', models.DecimalField(decimal_places=2, max_digits=14)),
                ('is_folded', models.BooleanField(default=False)),
            ],
            options={
                'verbose_name_plural': 'charge tallies',
                'indexes': [models.Index(fields=['day', 'lane', 'state'], name='charge_tally_key'), models.Index(condition=models.Q(('is_folded', False)), fields=['day'], name='charge_tally_to_fold')],
            },
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
