"""An export may be the evidence pack of one charge."""
from django.db import migrations, models

class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0034_captures'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='exportrun',
            name='export_what',
        ),
        migrations.AlterField(
            model_name='exportrun',
            name='what',
            field=models.CharField(choices=[('charges', 'Charges'), ('attempts', 'Attempts'), ('discrepancies', 'Discrepancies'), ('statement-lines', 'statement lines'), ('cases', 'Cases'), ('journal', 'journal of a month'), ('evidence', 'evidence pack of a charge')], max_length=15),
        ),
        migrations.AddConstraint(
            model_name='exportrun',
            constraint=models.CheckConstraint(condition=models.Q(('what__in', ['charges', 'attempts', 'discrepancies', 'statement-lines', 'cases', 'journal', 'evidence'])), name='export_what'),
        ),
    ]
