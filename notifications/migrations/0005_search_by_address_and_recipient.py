from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notifications", "0004_forgiven_attempts")]
    operations = [
        migrations.AddIndex(
            "delivery",
            models.Index(
                condition=models.Q(("to", ""), _negated=True), fields=["to", "-uid"], name="delivery_by_address"
            ),
        ),
        migrations.AddIndex(
            "delivery",
            models.Index(
                condition=models.Q(("recipient__isnull", False)),
                fields=["recipient", "-uid"],
                name="delivery_by_recipient",
            ),
        ),
    ]
