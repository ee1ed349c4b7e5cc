"""What files state beside captures, and what has landed, in the books; none of it ever changes."""

from pathlib import Path

import django.db.models.deletion
import django.db.models.expressions
from django.db import migrations, models

HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0020_entries_of_a_lane'),
        ('settlements', '0046_discrepancies_marked'),
    ]

    operations = [
        migrations.CreateModel(
            name='Booking',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('clearing', models.DecimalField(decimal_places=2, max_digits=14)),
                ('cash', models.DecimalField(decimal_places=2, max_digits=14)),
                ('fees', models.DecimalField(decimal_places=2, max_digits=14)),
                ('refunds', models.DecimalField(decimal_places=2, max_digits=14)),
                ('disputes', models.DecimalField(decimal_places=2, max_digits=14)),
                ('adjustments', models.DecimalField(decimal_places=2, max_digits=14)),
                ('unapplied_receipts', models.DecimalField(decimal_places=2, max_digits=14)),
                ('entry', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='booking', to='checkout.ledgerentry')),
                ('payout', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='booking', to='settlements.payout')),
                ('statement', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='booking', to='settlements.statementimport')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('cash', 0), ('payout__isnull', True), ('statement__isnull', False)), models.Q(('payout__isnull', False), ('statement__isnull', True), ('adjustments', 0), ('disputes', 0), ('refunds', 0), ('unapplied_receipts', 0)), _connector='OR'), name='booking_of_one_thing'), models.CheckConstraint(condition=models.Q(('clearing', django.db.models.expressions.CombinedExpression(django.db.models.expressions.CombinedExpression(django.db.models.expressions.CombinedExpression(django.db.models.expressions.CombinedExpression(django.db.models.expressions.CombinedExpression(django.db.models.expressions.CombinedExpression(models.F('cash'), '+', models.F('fees')), '+', models.F('refunds')), '+', models.F('disputes')), '+', models.F('adjustments')), '+', models.F('unapplied_receipts')), '*', models.Value(-1)))), name='booking_balances'), models.CheckConstraint(condition=models.Q(models.Q(('adjustments', 0), ('cash', 0), ('clearing', 0), ('disputes', 0), ('fees', 0), ('refunds', 0), ('unapplied_receipts', 0), ('entry__isnull', True)), models.Q(models.Q(('adjustments', 0), ('cash', 0), ('clearing', 0), ('disputes', 0), ('fees', 0), ('refunds', 0), ('unapplied_receipts', 0), _negated=True), ('entry__isnull', False)), _connector='OR'), name='booking_entry')],
            },
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
