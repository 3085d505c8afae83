from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workflows", "0005_runs_going_by_version")]
    operations = [
        migrations.AddIndex(
            "run",
            models.Index(
                condition=models.Q(("trigger", ""), _negated=True),
                fields=["trigger", "-uid"],
                name="run_by_subscription",
            ),
        ),
    ]
