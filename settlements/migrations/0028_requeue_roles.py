"""Operators requeue in bulk, approvers approve what is above the limit, everybody reads."""

from django.db import migrations

from settlements.roles import settle_roles


class Migration(migrations.Migration):
    dependencies = [("settlements", "0027_roles_of_the_books"), ("checkout", "0017_bulk_requeues")]
    operations = [migrations.RunPython(settle_roles, migrations.RunPython.noop)]
