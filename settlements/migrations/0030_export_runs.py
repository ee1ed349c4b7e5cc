"""What people asked to be exported, and the file that was made of it."""
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('settlements', '0029_lines_beside_charges'),
    ]

    operations = [
        migrations.CreateModel(
            name='ExportRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('what', models.CharField(choices=[('charges', 'Charges'), ('attempts', 'Attempts'), ('discrepancies', 'Discrepancies'), ('statement-lines', 'statement lines'), ('cases', 'Cases'), ('journal', 'journal of a month')], max_length=15)),
                ('form', models.CharField(choices=[('csv', 'CSV'), ('csv-excel', 'CSV for Excel with decimal commas (byte order mark, semicolons)'), ('xlsx', 'workbook (XLSX)'), ('zip', 'ZIP')], max_length=9)),
                ('query', models.CharField(blank=True, default='', max_length=1000)),
                ('words', models.CharField(max_length=500)),
                ('asked_by', models.CharField(max_length=150)),
                ('asked_at', models.DateTimeField()),
                ('reason', models.CharField(max_length=300)),
                ('state', models.CharField(choices=[('asked', 'waits to be made'), ('made', 'Made'), ('failed', 'Failed')], default='asked', max_length=6)),
                ('tries', models.PositiveSmallIntegerField(default=0)),
                ('claimed_until', models.DateTimeField(blank=True, null=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('as_of', models.DateTimeField(blank=True, null=True)),
                ('rows', models.PositiveBigIntegerField(blank=True, null=True)),
                ('total', models.DecimalField(blank=True, decimal_places=2, max_digits=16, null=True)),
                ('size', models.PositiveBigIntegerField(blank=True, null=True)),
                ('sha256', models.CharField(blank=True, default='', max_length=64)),
                ('file', models.CharField(blank=True, default='', max_length=60)),
                ('failed_because', models.CharField(blank=True, default='', max_length=500)),
                ('removed_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'export',
                'permissions': [('download_exportrun', 'Can download export')],
                'indexes': [models.Index(fields=['-asked_at', '-id'], name='export_newest'), models.Index(condition=models.Q(('state', 'asked')), fields=['asked_at', 'id'], name='export_waiting'), models.Index(condition=models.Q(('removed_at__isnull', True), ('state', 'made')), fields=['ended_at'], name='export_kept')],
                'constraints': [models.CheckConstraint(condition=models.Q(('what__in', ['charges', 'attempts', 'discrepancies', 'statement-lines', 'cases', 'journal'])), name='export_what'), models.CheckConstraint(condition=models.Q(('form__in', ['csv', 'csv-excel', 'xlsx', 'zip'])), name='export_form'), models.CheckConstraint(condition=models.Q(models.Q(('asked_by', ''), _negated=True), models.Q(('reason', ''), _negated=True), models.Q(('words', ''), _negated=True)), name='export_whole'), models.CheckConstraint(condition=models.Q(models.Q(('as_of__isnull', False), ('ended_at__isnull', False), ('state', 'made'), ('rows__isnull', False), ('size__isnull', False), ('total__isnull', False), ('failed_because', ''), models.Q(('sha256', ''), _negated=True), models.Q(('file', ''), _negated=True)), models.Q(('as_of__isnull', True), ('rows__isnull', True), ('state__in', ['asked', 'failed']), ('file', ''), ('sha256', ''), ('size__isnull', True), ('total__isnull', True), ('removed_at__isnull', True)), _connector='OR'), name='export_made'), models.CheckConstraint(condition=models.Q(models.Q(('ended_at__isnull', True), ('failed_because', ''), ('state', 'asked')), ('state', 'made'), models.Q(('ended_at__isnull', False), ('state', 'failed'), models.Q(('failed_because', ''), _negated=True)), _connector='OR'), name='export_ended'), models.UniqueConstraint(condition=models.Q(('state', 'asked')), fields=('asked_by', 'what', 'form', 'query'), name='export_asked_once')],
            },
        ),
    ]
