"""Entries that correct what two people decided about."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0014_rights'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='ledgerentry',
            name='entry_kind',
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='kind',
            field=models.CharField(choices=[('billed', 'Billed'), ('captured', 'Captured'), ('unapplied', 'Unapplied'), ('voided', 'Voided'), ('written_off', 'Written Off'), ('corrected', 'Corrected')], max_length=11),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['billed', 'captured', 'unapplied', 'voided', 'written_off', 'corrected'])), name='entry_kind'),
        ),
    ]
