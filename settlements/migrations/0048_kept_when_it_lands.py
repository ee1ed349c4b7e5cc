"""What a bank kept is less than what left when it lands; what left may be reversed later."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0047_bookings'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='payout',
            name='payout_kept',
        ),
        migrations.AddConstraint(
            model_name='payout',
            constraint=models.CheckConstraint(condition=models.Q(('kept', 0), models.Q(('kept__gt', 0), ('landed_on__isnull', False)), _connector='OR'), name='payout_kept'),
        ),
    ]
