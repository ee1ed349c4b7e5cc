"""Analysts propose at the discrepancy desk, approvers approve, everybody reads."""

from django.db import migrations

from settlements.roles import settle_roles


class Migration(migrations.Migration):
    dependencies = [("settlements", "0020_desk")]
    operations = [migrations.RunPython(settle_roles, migrations.RunPython.noop)]
