"""What finance was told: notices, what each told of, and which way each went out."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0022_payouts_without_lines'),
    ]

    operations = [
        migrations.CreateModel(
            name='Notice',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('discrepancies', 'discrepancies opened'), ('files', 'files late or set aside'), ('approvals', 'waits for an approval'), ('digest', 'morning digest'), ('page', 'above what pages')], max_length=13)),
                ('noticed_at', models.DateTimeField()),
                ('title', models.CharField(max_length=200)),
                ('text', models.TextField()),
                ('figures', models.JSONField(default=dict)),
            ],
            options={
                'indexes': [models.Index(fields=['-noticed_at', '-id'], name='notice_newest'), models.Index(fields=['kind', '-noticed_at'], name='notice_kind_newest')],
                'constraints': [models.CheckConstraint(condition=models.Q(('kind__in', ['discrepancies', 'files', 'approvals', 'digest', 'page'])), name='notice_kind'), models.CheckConstraint(condition=models.Q(models.Q(('title', ''), _negated=True), models.Q(('text', ''), _negated=True)), name='notice_whole')],
            },
        ),
        migrations.CreateModel(
            name='NoticeItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('subject', models.CharField(max_length=120, unique=True)),
                ('notice', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='items', to='settlements.notice')),
            ],
        ),
        migrations.CreateModel(
            name='NoticeDelivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('way', models.CharField(choices=[('mail', 'Mail'), ('webhook', 'Webhook')], max_length=7)),
                ('tries', models.PositiveIntegerField(default=0)),
                ('next_try_at', models.DateTimeField()),
                ('told_at', models.DateTimeField(blank=True, null=True)),
                ('why', models.CharField(blank=True, default='', max_length=100)),
                ('notice', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='deliveries', to='settlements.notice')),
            ],
            options={
                'verbose_name_plural': 'notice deliveries',
                'indexes': [models.Index(condition=models.Q(('told_at__isnull', True)), fields=['way', 'next_try_at'], name='delivery_waiting')],
                'constraints': [models.UniqueConstraint(fields=('notice', 'way'), name='delivery_once_a_way'), models.CheckConstraint(condition=models.Q(('way__in', ['mail', 'webhook'])), name='delivery_way'), models.CheckConstraint(condition=models.Q(('told_at__isnull', True), models.Q(('tries__gte', 1), ('why', '')), _connector='OR'), name='delivery_told')],
            },
        ),
    ]
