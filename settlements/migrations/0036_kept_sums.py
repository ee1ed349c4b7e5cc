"""What a fact said before it was rewritten, and marks for sums and lines that nothing ever rewrites."""

from pathlib import Path

from django.db import migrations, models


HERE = Path(__file__)


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0035_evidence_packs'),
    ]

    operations = [
        migrations.CreateModel(
            name='Rewriting',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(max_length=63)),
                ('row', models.CharField(max_length=63)),
                ('field', models.CharField(blank=True, default='', max_length=63)),
                ('was', models.TextField(blank=True, default='')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('source', 'row', 'field'), name='rewriting_once')],
            },
        ),
        migrations.RunSQL(
            HERE.with_suffix(".sql").read_text(), HERE.with_suffix(".down.sql").read_text()
        ),
    ]
