import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name='OutgoingEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event_id', models.CharField(help_text='Fixed from the beginning: sent twice, it counts once.', max_length=200, verbose_name='id')),
                ('type', models.CharField(max_length=200)),
                ('subject', models.CharField(blank=True, max_length=500)),
                ('body', models.TextField(help_text='The event as it is sent, in JSON.')),
                ('emitted_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('refused_at', models.DateTimeField(blank=True, null=True)),
                ('reason', models.TextField(blank=True, default='', help_text='Why Carillon refused it.')),
            ],
            options={
                'ordering': ['id'],
                'indexes': [models.Index(fields=['refused_at', 'id'], name='outgoing_event_next')],
            },
        ),
    ]
