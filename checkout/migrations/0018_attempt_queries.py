"""What the resolver asked of the processors, and what they answered, is kept."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

HERE = Path(__file__)


class Migration(migrations.Migration):
    dependencies = [("checkout", "0017_bulk_requeues")]
    operations = [
        migrations.CreateModel(
            name="AttemptQuery",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("number", models.PositiveIntegerField()),
                (
                    "asked",
                    models.CharField(
                        choices=[
                            ("outcome", "what became of it"),
                            ("end", "to end it, since it was pending"),
                        ],
                        max_length=7,
                    ),
                ),
                ("asked_at", models.DateTimeField()),
                ("answered_at", models.DateTimeField()),
                ("answer", models.CharField(max_length=300)),
                (
                    "attempt",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="asked",
                        to="checkout.attempt",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "attempt queries",
                "indexes": [
                    models.Index(fields=["attempt", "-number"], name="attempt_query_newest")
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("asked__in", ["outcome", "end"]),
                            ("number__gte", 1),
                            models.Q(("answer", ""), _negated=True),
                        ),
                        name="attempt_query_whole",
                    )
                ],
            },
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
