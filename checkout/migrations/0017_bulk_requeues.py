"""Many exhausted charges requeued at once: what is chosen, who approves, what became of each."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models


HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0016_tallies'),
    ]

    operations = [
        migrations.CreateModel(
            name='BulkRequeue',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lane', models.CharField(blank=True, default='', max_length=40)),
                ('decline_class', models.CharField(blank=True, choices=[('never', 'never'), ('customer_action', 'customer_action'), ('funds', 'funds'), ('issuer_soft', 'issuer_soft'), ('technical', 'technical')], default='', max_length=15)),
                ('awaits', models.CharField(blank=True, choices=[('', 'Nothing'), ('date', 'Date'), ('instrument', 'Instrument'), ('person', 'Person')], default='', max_length=10)),
                ('since', models.DateTimeField(blank=True, null=True)),
                ('until', models.DateTimeField(blank=True, null=True)),
                ('reason', models.CharField(max_length=300)),
                ('count', models.PositiveIntegerField()),
                ('usd', models.DecimalField(decimal_places=2, max_digits=14)),
                ('sha256', models.CharField(max_length=64)),
                ('limit_count', models.PositiveIntegerField()),
                ('limit_usd', models.DecimalField(decimal_places=2, max_digits=14)),
                ('needs_approval', models.BooleanField()),
                ('proposed_by', models.CharField(max_length=150)),
                ('proposed_at', models.DateTimeField()),
                ('decision', models.CharField(blank=True, choices=[('', 'not decided'), ('approved', 'Approved'), ('refused', 'Refused'), ('withdrawn', 'Withdrawn')], default='', max_length=9)),
                ('decided_by', models.CharField(blank=True, default='', max_length=150)),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('decided_because', models.CharField(blank=True, default='', max_length=300)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'permissions': [('approve_bulkrequeue', 'Can approve bulk requeue')],
                'indexes': [models.Index(fields=['-proposed_at', '-id'], name='bulk_requeue_newest'), models.Index(condition=models.Q(('finished_at__isnull', True)), fields=['proposed_at'], name='bulk_requeue_unfinished')],
                'constraints': [models.CheckConstraint(condition=models.Q(('count__gte', 1), models.Q(('proposed_by', ''), _negated=True), models.Q(('reason', ''), _negated=True)), name='bulk_requeue_whole'), models.CheckConstraint(condition=models.Q(('needs_approval', True), models.Q(('count__lte', models.F('limit_count')), ('usd__lte', models.F('limit_usd'))), _connector='OR'), name='bulk_requeue_limit'), models.CheckConstraint(condition=models.Q(models.Q(('decision__in', ['approved', 'refused']), _negated=True), models.Q(('decided_by', models.F('proposed_by')), _negated=True), _connector='OR'), name='bulk_requeue_four_eyes'), models.CheckConstraint(condition=models.Q(models.Q(('decided_at__isnull', True), ('decided_because', ''), ('decided_by', ''), ('decision', '')), models.Q(('decided_at__isnull', False), ('decision__in', ['approved', 'refused', 'withdrawn']), ('needs_approval', True), models.Q(('decided_by', ''), _negated=True), models.Q(('decided_because', ''), _negated=True)), _connector='OR'), name='bulk_requeue_decided')],
            },
        ),
        migrations.CreateModel(
            name='BulkRequeueItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('round', models.PositiveSmallIntegerField()),
                ('amount', models.DecimalField(decimal_places=2, max_digits=14)),
                ('outcome', models.CharField(blank=True, choices=[('', 'not yet'), ('requeued', 'Requeued'), ('left', 'Left')], default='', max_length=8)),
                ('left_because', models.CharField(blank=True, default='', max_length=300)),
                ('done_at', models.DateTimeField(blank=True, null=True)),
                ('charge', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='bulk_requeues', to='checkout.charge')),
                ('requeue', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='items', to='checkout.bulkrequeue')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('outcome', '')), fields=['requeue', 'id'], name='bulk_requeue_item_waiting')],
                'constraints': [models.UniqueConstraint(fields=('requeue', 'charge'), name='bulk_requeue_item_once'), models.UniqueConstraint(condition=models.Q(('outcome', '')), fields=('charge',), name='bulk_requeue_item_waits_once'), models.CheckConstraint(condition=models.Q(models.Q(('done_at__isnull', True), ('left_because', ''), ('outcome', '')), models.Q(('done_at__isnull', False), ('left_because', ''), ('outcome', 'requeued')), models.Q(('done_at__isnull', False), ('outcome', 'left'), models.Q(('left_because', ''), _negated=True)), _connector='OR'), name='bulk_requeue_item_outcome')],
            },
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
