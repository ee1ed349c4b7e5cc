"""Banks' statements, what each lane owes us as files, and files on their way in."""

import django.db.models.deletion
import django.db.models.expressions
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0007_unseen_messages'),
    ]

    operations = [
        migrations.AddField(
            model_name='statementimport',
            name='balances_stated',
            field=models.BooleanField(db_default=True, default=True),
        ),
        migrations.AddField(
            model_name='statementimport',
            name='format',
            field=models.CharField(db_default='processor-csv', default='processor-csv', max_length=20),
        ),
        migrations.AlterField(
            model_name='discrepancy',
            name='code',
            field=models.CharField(choices=[('under_charge', 'Under Charge'), ('surplus', 'Surplus'), ('expectation', 'Expectation'), ('period', 'Period'), ('creator', 'Creator'), ('currency', 'Currency'), ('state', 'State'), ('unapplied', 'Unapplied'), ('missing', 'Missing'), ('extra', 'Extra'), ('next_billing', 'Next Billing'), ('amount', 'Amount'), ('fee', 'Fee'), ('lane', 'Lane'), ('duplicate', 'Duplicate'), ('unmatched', 'Unmatched'), ('not_captured', 'Not Captured'), ('late_file', 'Late File'), ('quarantined_file', 'Quarantined File'), ('unreadable_file', 'Unreadable File'), ('unbalanced', 'Unbalanced'), ('receivable', 'Receivable'), ('gap', 'Gap'), ('changed', 'Changed'), ('order', 'Order'), ('rewritten', 'Rewritten')], max_length=16),
        ),
        migrations.CreateModel(
            name='BankStatement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.CharField(max_length=34)),
                ('statement_id', models.CharField(max_length=35)),
                ('sequence', models.BigIntegerField(blank=True, null=True)),
                ('version', models.CharField(max_length=20)),
                ('first_day', models.DateField()),
                ('last_day', models.DateField()),
                ('opening', models.DecimalField(decimal_places=2, max_digits=14)),
                ('closing', models.DecimalField(decimal_places=2, max_digits=14)),
                ('movement', models.DecimalField(decimal_places=2, max_digits=14)),
                ('entry_count', models.PositiveIntegerField()),
                ('not_booked', models.PositiveIntegerField(default=0)),
                ('file_name', models.CharField(max_length=255)),
                ('sha256', models.CharField(max_length=64)),
                ('position', models.PositiveIntegerField()),
                ('state', models.CharField(choices=[('accepted', 'Accepted'), ('quarantined', 'Quarantined')], max_length=11)),
                ('reason', models.CharField(blank=True, default='', max_length=300)),
                ('imported_by', models.CharField(max_length=150)),
                ('imported_at', models.DateTimeField()),
                ('accepted_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['account', 'last_day'], name='bank_account_last_day'), models.Index(fields=['-imported_at', '-id'], name='bank_newest')],
                'constraints': [models.UniqueConstraint(fields=('sha256', 'position'), name='bank_file_once'), models.UniqueConstraint(condition=models.Q(('state', 'accepted')), fields=('account', 'statement_id'), name='bank_statement_once'), models.CheckConstraint(condition=models.Q(('last_day__gte', models.F('first_day'))), name='bank_statement_days'), models.CheckConstraint(condition=models.Q(models.Q(('accepted_at__isnull', False), ('closing', django.db.models.expressions.CombinedExpression(models.F('opening'), '+', models.F('movement'))), ('reason', ''), ('state', 'accepted')), models.Q(('accepted_at__isnull', True), ('state', 'quarantined'), models.Q(('reason', ''), _negated=True)), _connector='OR'), name='bank_statement_state')],
            },
        ),
        migrations.CreateModel(
            name='StatementTerms',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lane', models.CharField(max_length=40, unique=True)),
                ('time_zone', models.CharField(default='UTC', max_length=64)),
                ('covers', models.CharField(choices=[('day', 'Day'), ('week', 'Week'), ('month', 'Month')], default='day', max_length=5)),
                ('due_days', models.PositiveSmallIntegerField(default=1)),
                ('due_time', models.TimeField()),
            ],
            options={
                'verbose_name_plural': 'statement terms',
                'constraints': [models.CheckConstraint(condition=models.Q(('covers__in', ['day', 'week', 'month'])), name='terms_covers'), models.CheckConstraint(condition=models.Q(('due_days__gte', 1), ('due_days__lte', 62)), name='terms_due_days')],
            },
        ),
        migrations.CreateModel(
            name='StatementUpload',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sha256', models.CharField(max_length=64)),
                ('uploaded_by', models.CharField(max_length=150)),
                ('uploaded_at', models.DateTimeField()),
                ('file_name', models.CharField(max_length=255)),
                ('content', models.BinaryField()),
                ('lane', models.CharField(blank=True, default='', max_length=40)),
                ('told', models.JSONField(blank=True, default=dict)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('uploaded_by',), name='upload_one_a_person')],
            },
        ),
        migrations.CreateModel(
            name='BankEntry',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('number', models.PositiveIntegerField()),
                ('booked_on', models.DateField()),
                ('value_on', models.DateField(blank=True, null=True)),
                ('amount', models.DecimalField(decimal_places=2, max_digits=14)),
                ('side', models.CharField(choices=[('CRDT', 'Credit'), ('DBIT', 'Debit')], max_length=4)),
                ('net', models.GeneratedField(db_persist=True, expression=models.Case(models.When(side='CRDT', then=models.F('amount')), default=django.db.models.expressions.CombinedExpression(models.F('amount'), '*', models.Value(-1))), output_field=models.DecimalField(decimal_places=2, max_digits=14))),
                ('currency', models.CharField(max_length=3)),
                ('is_reversal', models.BooleanField()),
                ('reference', models.CharField(blank=True, default='', max_length=128)),
                ('entry_reference', models.CharField(blank=True, default='', max_length=128)),
                ('end_to_end_id', models.CharField(blank=True, default='', max_length=128)),
                ('code', models.CharField(blank=True, default='', max_length=128)),
                ('counterparty', models.CharField(blank=True, default='', max_length=140)),
                ('remittance', models.TextField(blank=True, default='')),
                ('payments', models.PositiveIntegerField(default=1)),
                ('statement', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='entries', to='settlements.bankstatement')),
            ],
            options={
                'verbose_name_plural': 'bank entries',
                'indexes': [models.Index(condition=models.Q(('end_to_end_id', ''), _negated=True), fields=['end_to_end_id'], name='bank_entry_end_to_end'), models.Index(fields=['value_on', 'amount'], name='bank_entry_value_amount')],
                'constraints': [models.UniqueConstraint(fields=('statement', 'number'), name='bank_entry_number_once'), models.CheckConstraint(condition=models.Q(('currency', 'USD')), name='bank_entry_usd'), models.CheckConstraint(condition=models.Q(('amount__gte', 0)), name='bank_entry_amount'), models.CheckConstraint(condition=models.Q(('side__in', ['CRDT', 'DBIT'])), name='bank_entry_side')],
            },
        ),
        migrations.CreateModel(
            name='StatementFile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('path', models.CharField(max_length=400, unique=True)),
                ('size', models.BigIntegerField()),
                ('modified', models.BigIntegerField()),
                ('sha256', models.CharField(blank=True, default='', max_length=64)),
                ('state', models.CharField(choices=[('arriving', 'Arriving'), ('imported', 'Imported'), ('known', 'Known'), ('quarantined', 'Quarantined'), ('refused', 'Refused'), ('gone', 'Gone')], max_length=11)),
                ('reason', models.TextField(blank=True, default='')),
                ('seen_at', models.DateTimeField()),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('bank_statement', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='files', to='settlements.bankstatement')),
                ('statement', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='files', to='settlements.statementimport')),
            ],
            options={
                'indexes': [models.Index(fields=['-seen_at', '-id'], name='statement_file_newest')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('decided_at__isnull', True), ('state', 'arriving')), models.Q(models.Q(('state', 'arriving'), _negated=True), ('decided_at__isnull', False)), _connector='OR'), name='statement_file_decided'), models.CheckConstraint(condition=models.Q(models.Q(('state', 'refused'), _negated=True), models.Q(('reason', ''), _negated=True), _connector='OR'), name='statement_file_reason')],
            },
        ),
    ]
