"""Analysts propose to close a day or a month, approvers lock it, everybody reads the certificate."""

from django.db import migrations

from settlements.roles import settle_roles


class Migration(migrations.Migration):
    dependencies = [("settlements", "0026_books")]
    operations = [migrations.RunPython(settle_roles, migrations.RunPython.noop)]
