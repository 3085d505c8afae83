from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notifications", "0005_find_deliveries")]
    operations = [
        migrations.AddIndex(
            "delivery",
            models.Index(
                condition=models.Q(("recipient__isnull", False)),
                fields=["recipient", "-uid"],
                name="delivery_by_recipient",
            ),
        ),
    ]
