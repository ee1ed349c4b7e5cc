"""Our banks owe statements too: for which days of which accounts, and when each is late."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

from settlements.roles import settle_roles

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0040_run_ended'),
    ]

    operations = [
        migrations.CreateModel(
            name='BankTerms',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.CharField(max_length=34, unique=True)),
                ('from_day', models.DateField()),
                ('calendar', models.CharField(default='us-fed', max_length=40)),
                ('time_zone', models.CharField(default='UTC', max_length=64)),
                ('due_days', models.PositiveSmallIntegerField(default=1)),
                ('due_time', models.TimeField()),
            ],
            options={
                'verbose_name_plural': 'bank terms',
                'constraints': [models.CheckConstraint(condition=models.Q(('due_days__gte', 1), ('due_days__lte', 10), models.Q(('account', ''), _negated=True), models.Q(('calendar', ''), _negated=True)), name='bank_terms_whole')],
            },
        ),
        migrations.CreateModel(
            name='BankExpectation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.CharField(max_length=34)),
                ('day', models.DateField()),
                ('due_at', models.DateTimeField()),
                ('state', models.CharField(choices=[('expected', 'Expected'), ('late', 'Late'), ('arrived', 'Arrived'), ('quarantined', 'Quarantined')], default='expected', max_length=11)),
                ('statement', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='days', to='settlements.bankstatement')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('state', 'arrived'), _negated=True), fields=['due_at'], name='bank_expectation_open')],
                'constraints': [models.UniqueConstraint(fields=('account', 'day'), name='bank_expectation_once'), models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['expected', 'late']), ('statement__isnull', True)), models.Q(('state__in', ['arrived', 'quarantined']), ('statement__isnull', False)), _connector='OR'), name='bank_expectation_state')],
            },
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
        migrations.RunPython(settle_roles, migrations.RunPython.noop),
    ]
