from django.apps import AppConfig


class OpsConfig(AppConfig):
    name = "examples.ops"
    label = "ops"
    verbose_name = "Example: operations"
