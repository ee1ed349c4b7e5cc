"""Viewer, analyst, approver, operator: groups with exactly what settlements/roles.py says."""

from django.db import migrations

from settlements.roles import forget_roles, settle_roles


class Migration(migrations.Migration):
    dependencies = [
        ("settlements", "0011_holiday"),
        ("checkout", "0014_rights"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(settle_roles, forget_roles)]
