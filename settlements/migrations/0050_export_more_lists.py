"""All that finance and auditors take away from a page; a list without money has no total."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0049_balances_told_again'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='exportrun',
            name='export_made',
        ),
        migrations.RemoveConstraint(
            model_name='exportrun',
            name='export_what',
        ),
        migrations.AlterField(
            model_name='exportrun',
            name='what',
            field=models.CharField(choices=[('charges', 'Charges'), ('attempts', 'Attempts'), ('captures', 'Captures'), ('ledger-entries', 'ledger entries'), ('statements', 'statement imports'), ('statement-lines', 'statement lines'), ('payouts', 'Payouts'), ('bank-statements', 'bank statements'), ('bank-entries', 'bank entries'), ('settlements', 'Settlements'), ('discrepancies', 'Discrepancies'), ('proposals', 'Proposals'), ('desk-actions', 'desk actions'), ('cases', 'Cases'), ('holds', 'Holds'), ('bulk-requeues', 'bulk requeues'), ('closes', 'closes of the books'), ('audit-trail', 'audit trail'), ('journal', 'journal of a month'), ('evidence', 'evidence pack of a charge')], max_length=15),
        ),
        migrations.AddConstraint(
            model_name='exportrun',
            constraint=models.CheckConstraint(condition=models.Q(('what__in', ['charges', 'attempts', 'captures', 'ledger-entries', 'statements', 'statement-lines', 'payouts', 'bank-statements', 'bank-entries', 'settlements', 'discrepancies', 'proposals', 'desk-actions', 'cases', 'holds', 'bulk-requeues', 'closes', 'audit-trail', 'journal', 'evidence'])), name='export_what'),
        ),
        migrations.AddConstraint(
            model_name='exportrun',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('as_of__isnull', False), ('ended_at__isnull', False), ('state', 'made'), ('rows__isnull', False), ('size__isnull', False), models.Q(('total__isnull', False), ('what__in', ('desk-actions', 'holds', 'closes', 'audit-trail')), _connector='OR'), ('failed_because', ''), models.Q(('sha256', ''), _negated=True), models.Q(('file', ''), _negated=True)), models.Q(('as_of__isnull', True), ('rows__isnull', True), ('state__in', ['asked', 'failed']), ('file', ''), ('sha256', ''), ('size__isnull', True), ('total__isnull', True), ('removed_at__isnull', True)), _connector='OR'), name='export_made'),
        ),
    ]
