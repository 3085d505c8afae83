from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("events", "0007_webhook_sources")]
    operations = [
        # The same rule; its index now begins with the id, which events are looked for by.
        migrations.RemoveConstraint("event", "an_event_counts_once"),
        migrations.AddConstraint(
            "event", models.UniqueConstraint(fields=("event_id", "source"), name="an_event_counts_once")
        ),
        migrations.AddIndex("event", models.Index(fields=["source", "-uid"], name="event_by_source")),
    ]
