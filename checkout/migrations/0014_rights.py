"""Approving and writing off are rights of their own, beside Django's."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("checkout", "0013_pending_and_published")]
    operations = [
        migrations.AlterModelOptions(
            name="case", options={"permissions": [("approve_case", "Can approve case")]}
        ),
        migrations.AlterModelOptions(
            name="charge", options={"permissions": [("write_off_charge", "Can write off charge")]}
        ),
    ]
