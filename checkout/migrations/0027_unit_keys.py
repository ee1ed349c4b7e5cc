"""The keys of units of work that nothing else finds again after a commit that was not acknowledged."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('checkout', '0026_unapplied_found'),
    ]

    operations = [
        migrations.CreateModel(
            name='UnitKey',
            fields=[
                ('key', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('at', models.DateTimeField(db_index=True)),
            ],
        ),
    ]
