"""Analysts and approvers ask for exports and download them; everybody of finance sees the list."""

from django.db import migrations

from settlements.roles import settle_roles


class Migration(migrations.Migration):
    dependencies = [("settlements", "0031_export_runs_kept")]
    operations = [migrations.RunPython(settle_roles, migrations.RunPython.noop)]
