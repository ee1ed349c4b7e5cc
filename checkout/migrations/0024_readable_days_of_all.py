"""Reads every charge and all terms once; in a transaction of its own, so that nobody waits for it."""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0023_readable_days'),
    ]

    operations = [
        ValidateConstraint(model_name='charge', name='charge_readable'),
        ValidateConstraint(model_name='subscriptionterms', name='terms_readable'),
    ]
