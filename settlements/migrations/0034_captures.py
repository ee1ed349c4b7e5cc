"""Captures have a list of their own by how far they are proved; everybody of finance reads it."""

from django.db import migrations

from settlements.roles import settle_roles


class Migration(migrations.Migration):
    dependencies = [
        ("checkout", "0017_bulk_requeues"),
        ("settlements", "0033_matches"),
    ]
    operations = [
        migrations.CreateModel(
            name="Capture",
            fields=[],
            options={"proxy": True, "indexes": [], "constraints": []},
            bases=("checkout.attempt",),
        ),
        migrations.RunPython(settle_roles, migrations.RunPython.noop),
    ]
