"""The audit trail is searched by what was decided about and read by month: Django's table has no such index."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('admin', '0003_logentry_add_action_flag_choices'),
        ('checkout', '0021_exhausted_by_lane'),
    ]

    operations = [
        migrations.RunSQL(
            'CREATE INDEX log_entry_object ON django_admin_log (object_id)',
            'DROP INDEX log_entry_object',
        ),
        migrations.RunSQL(
            'CREATE INDEX log_entry_time ON django_admin_log (action_time DESC, id DESC)',
            'DROP INDEX log_entry_time',
        ),
    ]
