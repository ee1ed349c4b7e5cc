"""The discrepancy desk: proposals that another person approves, and the trail (R43, R54)."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models


HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0015_corrected_entries'),
        ('settlements', '0019_payout_roles'),
    ]

    operations = [
        migrations.CreateModel(
            name='ProposalItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('expected', models.DecimalField(decimal_places=2, max_digits=14)),
                ('actual', models.DecimalField(decimal_places=2, max_digits=14)),
            ],
        ),
        migrations.AddField(
            model_name='discrepancy',
            name='assigned_to',
            field=models.CharField(blank=True, db_default='', default='', max_length=150),
        ),
        migrations.AddField(
            model_name='discrepancy',
            name='resolved_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.CreateModel(
            name='Proposal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('way', models.CharField(choices=[('accepted', 'accepted as it is; nothing is posted'), ('corrected', 'corrected in the books by an entry of its own')], max_length=9)),
                ('reason', models.CharField(max_length=300)),
                ('count', models.PositiveIntegerField()),
                ('net', models.DecimalField(decimal_places=2, max_digits=14)),
                ('absolute', models.DecimalField(decimal_places=2, max_digits=14)),
                ('sha256', models.CharField(max_length=64)),
                ('proposed_by', models.CharField(max_length=150)),
                ('proposed_at', models.DateTimeField()),
                ('decision', models.CharField(blank=True, choices=[('', 'waits for another person'), ('approved', 'Approved'), ('refused', 'Refused'), ('withdrawn', 'Withdrawn')], default='', max_length=9)),
                ('decided_by', models.CharField(blank=True, default='', max_length=150)),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('decided_because', models.CharField(blank=True, default='', max_length=300)),
            ],
            options={
                'permissions': [('approve_proposal', 'Can approve proposal')],
                'indexes': [models.Index(fields=['-proposed_at', '-id'], name='proposal_newest'), models.Index(condition=models.Q(('decision', '')), fields=['proposed_at'], name='proposal_open')],
                'constraints': [models.CheckConstraint(condition=models.Q(('way__in', ['accepted', 'corrected'])), name='proposal_way'), models.CheckConstraint(condition=models.Q(('count__gte', 1), models.Q(('proposed_by', ''), _negated=True), models.Q(('reason', ''), _negated=True)), name='proposal_whole'), models.CheckConstraint(condition=models.Q(models.Q(('decision__in', ['approved', 'refused']), _negated=True), models.Q(('decided_by', models.F('proposed_by')), _negated=True), _connector='OR'), name='proposal_four_eyes'), models.CheckConstraint(condition=models.Q(models.Q(('decided_at__isnull', True), ('decided_because', ''), ('decided_by', ''), ('decision', '')), models.Q(('decided_at__isnull', False), ('decision__in', ['approved', 'refused', 'withdrawn']), models.Q(('decided_by', ''), _negated=True), models.Q(('decided_because', ''), _negated=True)), _connector='OR'), name='proposal_decided')],
            },
        ),
        migrations.CreateModel(
            name='DeskAction',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('assigned', 'Assigned'), ('noted', 'Noted'), ('proposed', 'Proposed'), ('approved', 'Approved'), ('refused', 'Refused'), ('withdrawn', 'Withdrawn'), ('reopened', 'Reopened')], max_length=9)),
                ('by', models.CharField(max_length=150)),
                ('at', models.DateTimeField()),
                ('reason', models.CharField(max_length=300)),
                ('assigned_to', models.CharField(blank=True, default='', max_length=150)),
                ('discrepancy', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='trail', to='settlements.discrepancy')),
                ('proposal', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='trail', to='settlements.proposal')),
            ],
        ),
        migrations.AddField(
            model_name='discrepancy',
            name='proposal',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='discrepancies', to='settlements.proposal'),
        ),
        migrations.AddIndex(
            model_name='discrepancy',
            index=models.Index(condition=models.Q(('cleared_at__isnull', True), ('resolved_at__isnull', True)), fields=['-opened_at', '-id'], name='discrepancy_standing'),
        ),
        migrations.AddConstraint(
            model_name='discrepancy',
            constraint=models.CheckConstraint(condition=models.Q(('resolved_at__isnull', True), ('proposal__isnull', False), _connector='OR'), name='discrepancy_resolved'),
        ),
        migrations.AddField(
            model_name='proposalitem',
            name='discrepancy',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='proposed', to='settlements.discrepancy'),
        ),
        migrations.AddField(
            model_name='proposalitem',
            name='entry',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='correction', to='checkout.ledgerentry'),
        ),
        migrations.AddField(
            model_name='proposalitem',
            name='proposal',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='items', to='settlements.proposal'),
        ),
        migrations.AddField(
            model_name='proposalitem',
            name='reversal',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='reversal', to='checkout.ledgerentry'),
        ),
        migrations.AddIndex(
            model_name='deskaction',
            index=models.Index(fields=['-at', '-id'], name='desk_action_newest'),
        ),
        migrations.AddConstraint(
            model_name='deskaction',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['assigned', 'noted', 'proposed', 'approved', 'refused', 'withdrawn', 'reopened']), models.Q(('by', ''), _negated=True), models.Q(('reason', ''), _negated=True)), name='desk_action_whole'),
        ),
        migrations.AddConstraint(
            model_name='proposalitem',
            constraint=models.UniqueConstraint(fields=('proposal', 'discrepancy'), name='item_once'),
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
