from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0002_watch_configuration'),
    ]

    operations = [
        migrations.AddField(
            model_name='event',
            name='depth',
            field=models.PositiveSmallIntegerField(default=0, editable=False, help_text='How many runs and emitted events led to it; 0: it came from outside.'),
        ),
    ]
