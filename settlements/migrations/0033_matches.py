"""Matches by hand: lines and attempts of a proposal, whole when approved, believed while unchanged."""

from decimal import Decimal
from pathlib import Path

import django.db.models.deletion
import django.db.models.expressions
from django.db import migrations, models


HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0017_bulk_requeues'),
        ('settlements', '0032_roles_of_exports'),
    ]

    operations = [
        migrations.CreateModel(
            name='MatchedAttempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('was_open', models.BooleanField()),
                ('amount', models.DecimalField(decimal_places=2, max_digits=14)),
                ('correction', models.DecimalField(decimal_places=2, max_digits=14)),
                ('captured', models.DecimalField(decimal_places=2, max_digits=14)),
                ('in_force', models.BooleanField(default=True)),
            ],
        ),
        migrations.CreateModel(
            name='MatchedLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.UUIDField()),
                ('gross', models.DecimalField(decimal_places=2, max_digits=14)),
                ('in_force', models.BooleanField(default=True)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='deskaction',
            name='desk_action_whole',
        ),
        migrations.RemoveConstraint(
            model_name='proposal',
            name='proposal_way',
        ),
        migrations.AlterField(
            model_name='deskaction',
            name='discrepancy',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='trail', to='settlements.discrepancy'),
        ),
        migrations.AlterField(
            model_name='proposal',
            name='way',
            field=models.CharField(choices=[('accepted', 'accepted as it is; nothing is posted'), ('corrected', 'corrected in the books by an entry of its own'), ('matched', 'matched by hand: these lines tell of these attempts')], max_length=9),
        ),
        migrations.AddConstraint(
            model_name='deskaction',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['assigned', 'noted', 'proposed', 'approved', 'refused', 'withdrawn', 'reopened']), models.Q(('by', ''), _negated=True), models.Q(('reason', ''), _negated=True), models.Q(('discrepancy__isnull', False), ('proposal__isnull', False), _connector='OR')), name='desk_action_whole'),
        ),
        migrations.AddConstraint(
            model_name='proposal',
            constraint=models.CheckConstraint(condition=models.Q(('way__in', ['accepted', 'corrected', 'matched'])), name='proposal_way'),
        ),
        migrations.AddField(
            model_name='matchedattempt',
            name='attempt',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='matched', to='checkout.attempt'),
        ),
        migrations.AddField(
            model_name='matchedattempt',
            name='creator',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='checkout.creator'),
        ),
        migrations.AddField(
            model_name='matchedattempt',
            name='entry',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='matched', to='checkout.ledgerentry'),
        ),
        migrations.AddField(
            model_name='matchedattempt',
            name='proposal',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='matched_attempts', to='settlements.proposal'),
        ),
        migrations.AddField(
            model_name='matchedattempt',
            name='reversal',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='unmatched', to='checkout.ledgerentry'),
        ),
        migrations.AddField(
            model_name='matchedline',
            name='line',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='matched', to='settlements.statementline'),
        ),
        migrations.AddField(
            model_name='matchedline',
            name='proposal',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='matched_lines', to='settlements.proposal'),
        ),
        migrations.AddConstraint(
            model_name='matchedattempt',
            constraint=models.UniqueConstraint(condition=models.Q(('in_force', True)), fields=('attempt',), name='matched_attempt_once'),
        ),
        migrations.AddConstraint(
            model_name='matchedattempt',
            constraint=models.CheckConstraint(condition=models.Q(('captured__gte', Decimal('0.01')), models.Q(models.Q(('captured', django.db.models.expressions.CombinedExpression(models.F('amount'), '+', models.F('correction'))), ('was_open', True)), models.Q(('captured', models.F('amount')), ('was_open', False)), _connector='OR')), name='matched_attempt_amounts'),
        ),
        migrations.AddIndex(
            model_name='matchedline',
            index=models.Index(fields=['key'], name='matched_line_key'),
        ),
        migrations.AddConstraint(
            model_name='matchedline',
            constraint=models.UniqueConstraint(condition=models.Q(('in_force', True)), fields=('line',), name='matched_line_once'),
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
