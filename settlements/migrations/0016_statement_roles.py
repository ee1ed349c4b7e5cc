"""Banks' statements and watched files are seen by all of finance; analysts and operators upload."""

from django.db import migrations

from settlements.roles import settle_roles


class Migration(migrations.Migration):
    dependencies = [("settlements", "0015_settlement_roles")]
    operations = [migrations.RunPython(settle_roles, migrations.RunPython.noop)]
