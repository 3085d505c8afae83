from django.db import migrations

from project.configuration import watch


class Migration(migrations.Migration):
    dependencies = [("events", "0001_initial"), ("project", "0002_count_changes")]
    operations = [
        watch("events_source"),
        watch("events_apikey"),
        watch("events_eventtype"),
        watch("events_eventschema"),
        watch("events_subscription"),
        watch("events_subscription_sources"),
    ]
