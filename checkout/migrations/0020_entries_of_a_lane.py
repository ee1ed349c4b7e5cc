"""Entries that are no single charge's: what a processor's file states, what has landed at the bank."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0019_pages_of_a_month'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='ledgerentry',
            name='entry_kind',
        ),
        migrations.RemoveConstraint(
            model_name='ledgerposting',
            name='posting_account',
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='charge',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='ledger_entries', to='checkout.charge'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='kind',
            field=models.CharField(choices=[('billed', 'Billed'), ('captured', 'Captured'), ('unapplied', 'Unapplied'), ('voided', 'Voided'), ('written_off', 'Written Off'), ('corrected', 'Corrected'), ('stated', 'Stated'), ('landed', 'Landed')], max_length=11),
        ),
        migrations.AlterField(
            model_name='ledgerposting',
            name='account',
            field=models.CharField(choices=[('receivable', 'Receivable'), ('clearing', 'Clearing'), ('revenue', 'Revenue'), ('fees', 'Fees'), ('refunds', 'Refunds'), ('disputes', 'Disputes'), ('adjustments', 'Adjustments'), ('write_off', 'Write Off'), ('unapplied_receipts', 'Unapplied Receipts'), ('cash', 'Cash')], max_length=18),
        ),
        migrations.AlterField(
            model_name='ledgerposting',
            name='charge',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='postings', to='checkout.charge'),
        ),
        migrations.AlterField(
            model_name='ledgerposting',
            name='creator',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='checkout.creator'),
        ),
        migrations.AddIndex(
            model_name='ledgerposting',
            index=models.Index(condition=models.Q(('charge__isnull', True)), fields=['entry'], name='posting_of_a_lane'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['billed', 'captured', 'unapplied', 'voided', 'written_off', 'corrected', 'stated', 'landed'])), name='entry_kind'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('charge__isnull', True), ('kind__in', ('stated', 'landed'))), models.Q(models.Q(('kind__in', ('stated', 'landed')), _negated=True), ('charge__isnull', False)), _connector='OR'), name='entry_charge'),
        ),
        migrations.AddConstraint(
            model_name='ledgerposting',
            constraint=models.CheckConstraint(condition=models.Q(('account__in', ['receivable', 'clearing', 'revenue', 'fees', 'refunds', 'disputes', 'adjustments', 'write_off', 'unapplied_receipts', 'cash'])), name='posting_account'),
        ),
        migrations.AddConstraint(
            model_name='ledgerposting',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('charge__isnull', True), ('creator__isnull', True)), models.Q(('charge__isnull', False), ('creator__isnull', False)), _connector='OR'), name='posting_charge'),
        ),
    ]
