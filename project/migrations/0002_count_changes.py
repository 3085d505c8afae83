from django.db import migrations

from project.configuration import COUNT_CHANGES


class Migration(migrations.Migration):
    dependencies = [("project", "0001_initial")]
    operations = [COUNT_CHANGES]
