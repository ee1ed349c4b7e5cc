"""What was published and not yet seen in the topic is quick to find."""

from django.db import migrations

INDEX = """
-- Looked at by every pass; empty but for what is under way.
CREATE INDEX settlements_published_unseen ON checkout_publishedmessage (message_id)
WHERE door = 'kafka' AND seen_at IS NULL
"""


class Migration(migrations.Migration):
    dependencies = [
        ("settlements", "0006_day_marks"),
        ("checkout", "0013_pending_and_published"),
    ]
    operations = [migrations.RunSQL(INDEX, "DROP INDEX settlements_published_unseen")]
