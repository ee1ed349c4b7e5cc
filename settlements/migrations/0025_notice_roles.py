"""Notices are seen by all of finance."""

from django.db import migrations

from settlements.roles import settle_roles


class Migration(migrations.Migration):
    dependencies = [("settlements", "0024_notices_kept")]
    operations = [migrations.RunPython(settle_roles, migrations.RunPython.noop)]
