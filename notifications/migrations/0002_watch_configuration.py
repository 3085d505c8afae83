from django.db import migrations

from project.configuration import watch


class Migration(migrations.Migration):
    dependencies = [("notifications", "0001_initial"), ("project", "0002_count_changes")]
    operations = [
        watch("notifications_channel", ("name", "type", "settings", '"default"', "enabled", "rate_limit", "max_in_flight", "timeout", "retry_schedule", "fallback_id")),
        watch("notifications_template"),
    ]
