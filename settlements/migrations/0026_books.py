"""The close of the books: days and months that two people lock (R43), and what is carried over."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models


HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0016_tallies'),
        ('settlements', '0025_notice_roles'),
    ]

    operations = [
        migrations.CreateModel(
            name='BooksClose',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('span', models.CharField(choices=[('day', 'Day'), ('month', 'Month')], max_length=5)),
                ('first_day', models.DateField()),
                ('line_count', models.PositiveIntegerField()),
                ('debit', models.DecimalField(decimal_places=2, max_digits=14)),
                ('credit', models.DecimalField(decimal_places=2, max_digits=14)),
                ('journal_sha256', models.CharField(max_length=64)),
                ('figures', models.JSONField()),
                ('charges', models.JSONField(blank=True, default=dict)),
                ('carried_count', models.PositiveIntegerField()),
                ('carried_usd', models.DecimalField(decimal_places=2, max_digits=14)),
                ('sha256', models.CharField(max_length=64)),
                ('as_of', models.DateTimeField()),
                ('proposed_by', models.CharField(max_length=150)),
                ('proposed_at', models.DateTimeField()),
                ('decision', models.CharField(blank=True, choices=[('', 'waits for another person'), ('approved', 'Approved'), ('refused', 'Refused'), ('withdrawn', 'Withdrawn')], default='', max_length=9)),
                ('decided_by', models.CharField(blank=True, default='', max_length=150)),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('decided_because', models.CharField(blank=True, default='', max_length=300)),
            ],
            options={
                'verbose_name': 'close of the books',
                'verbose_name_plural': 'closes of the books',
                'permissions': [('approve_booksclose', 'Can approve close of the books')],
                'indexes': [models.Index(fields=['-first_day', '-id'], name='books_close_newest')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('decision__in', ['', 'approved'])), fields=('span', 'first_day'), name='books_close_once'), models.CheckConstraint(condition=models.Q(('debit', models.F('credit')), ('debit__gte', 0), ('span__in', ['day', 'month']), models.Q(('proposed_by', ''), _negated=True)), name='books_close_whole'), models.CheckConstraint(condition=models.Q(('span', 'day'), ('first_day__day', 1), _connector='OR'), name='books_close_month'), models.CheckConstraint(condition=models.Q(models.Q(('decision__in', ['approved', 'refused']), _negated=True), models.Q(('decided_by', models.F('proposed_by')), _negated=True), _connector='OR'), name='books_close_four_eyes'), models.CheckConstraint(condition=models.Q(models.Q(('decided_at__isnull', True), ('decided_because', ''), ('decided_by', ''), ('decision', '')), models.Q(('decided_at__isnull', False), ('decision__in', ['approved', 'refused', 'withdrawn']), models.Q(('decided_by', ''), _negated=True), models.Q(('decided_because', ''), _negated=True)), _connector='OR'), name='books_close_decided')],
            },
        ),
        migrations.CreateModel(
            name='CarriedOver',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=120)),
                ('what', models.CharField(max_length=300)),
                ('usd', models.DecimalField(decimal_places=2, max_digits=14)),
                ('reason', models.CharField(max_length=300)),
                ('close', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='carried', to='settlements.booksclose')),
            ],
            options={
                'verbose_name_plural': 'carried over',
                'constraints': [models.UniqueConstraint(fields=('close', 'name'), name='carried_once'), models.CheckConstraint(condition=models.Q(models.Q(('name', ''), _negated=True), models.Q(('reason', ''), _negated=True)), name='carried_with_reason')],
            },
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
