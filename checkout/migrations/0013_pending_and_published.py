"""What is said, what waits and what was acknowledged stand in tables of their own (R44, R45)."""

from pathlib import Path

import django.contrib.postgres.indexes
import django.db.models.deletion
from django.db import migrations, models

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0012_database_timeouts'),
    ]

    operations = [
        migrations.CreateModel(
            name='PendingMessage',
            fields=[
                ('message', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='pending', serialize=False, to='checkout.outboxmessage')),
                ('door', models.CharField(choices=[('sqs', 'Sqs'), ('kafka', 'Kafka')], max_length=5)),
                ('key', models.UUIDField()),
                ('available_at', models.DateTimeField()),
                ('tries', models.PositiveIntegerField(default=0)),
                ('last_error', models.CharField(blank=True, default='', max_length=500)),
                ('parked_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='PublishedMessage',
            fields=[
                ('message', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='published', serialize=False, to='checkout.outboxmessage')),
                ('door', models.CharField(choices=[('sqs', 'Sqs'), ('kafka', 'Kafka')], max_length=5)),
                ('published_at', models.DateTimeField()),
                ('kafka_partition', models.IntegerField(blank=True, null=True)),
                ('kafka_offset', models.BigIntegerField(blank=True, null=True)),
                ('seen_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.AddIndex(
            model_name='pendingmessage',
            index=models.Index(fields=['door', 'message'], name='pending_door'),
        ),
        migrations.AddIndex(
            model_name='pendingmessage',
            index=models.Index(condition=models.Q(('parked_at__isnull', False)), fields=['door', 'key', 'message'], name='pending_parked'),
        ),
        migrations.AddIndex(
            model_name='publishedmessage',
            index=django.contrib.postgres.indexes.BrinIndex(fields=['published_at'], name='published_time', pages_per_range=16),
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
        migrations.RemoveIndex(
            model_name='outboxmessage',
            name='outbox_parked',
        ),
        migrations.RemoveIndex(
            model_name='outboxmessage',
            name='outbox_unpublished_sqs',
        ),
        migrations.RemoveIndex(
            model_name='outboxmessage',
            name='outbox_unpublished_kafka',
        ),
        migrations.RemoveField(
            model_name='outboxmessage',
            name='kafka_offset',
        ),
        migrations.RemoveField(
            model_name='outboxmessage',
            name='kafka_partition',
        ),
        migrations.RemoveField(
            model_name='outboxmessage',
            name='last_error',
        ),
        migrations.RemoveField(
            model_name='outboxmessage',
            name='parked_at',
        ),
        migrations.RemoveField(
            model_name='outboxmessage',
            name='published_at',
        ),
        migrations.RemoveField(
            model_name='outboxmessage',
            name='seen_at',
        ),
        migrations.RemoveField(
            model_name='outboxmessage',
            name='tries',
        ),
    ]
