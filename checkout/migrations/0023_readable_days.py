"""Days that Python can read: PostgreSQL cannot compute with all of its own. Checked for all rows by 0024."""

import datetime

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0022_log_entries'),
    ]

    operations = [
        AddConstraintNotValid(
            model_name='charge',
            constraint=models.CheckConstraint(condition=models.Q(('period_end__lte', datetime.date(9999, 12, 31)), ('period_start__gte', datetime.date(1, 1, 1))), name='charge_readable'),
        ),
        AddConstraintNotValid(
            model_name='subscriptionterms',
            constraint=models.CheckConstraint(condition=models.Q(('anchor__gte', datetime.date(1, 1, 1)), ('starts_on__lte', datetime.date(9999, 12, 31))), name='terms_readable'),
        ),
    ]
