"""The total of an export is USD as every other amount (R1)."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0041_bank_expectations'),
    ]

    operations = [
        migrations.AlterField(
            model_name='exportrun',
            name='total',
            field=models.DecimalField(blank=True, decimal_places=2, max_digits=14, null=True),
        ),
    ]
