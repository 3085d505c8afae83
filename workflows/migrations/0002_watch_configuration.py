from django.db import migrations

from project.configuration import watch


class Migration(migrations.Migration):
    dependencies = [("workflows", "0001_initial"), ("project", "0002_count_changes")]
    operations = [
        watch("workflows_workflow"),
        watch("workflows_workflowversion"),
    ]
