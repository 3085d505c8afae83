from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class ProjectConfig(AppConfig):
    name = "project"
    verbose_name = "Operations"

    def ready(self) -> None:
        from project import checks, people  # noqa: F401  registers checks and admin pages

        # Celery imports them in workers only, but the clock, /metrics and the admin have to know the stages as well.
        autodiscover_modules("tasks")
