from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules


class ProjectConfig(AppConfig):
    name = "project"
    verbose_name = "Operations"

    def ready(self) -> None:
        from project import audit, audit_pages, checks, people, roles  # noqa: F401  registers checks and admin pages
        from project.loading import read_times_quickly

        # Celery imports them in workers only, but the clock, /metrics and the admin have to know the stages as well.
        autodiscover_modules("tasks")
        audit.watch()
        read_times_quickly()
        # Of the last app, because then Django has made the permissions of all.
        post_migrate.connect(roles.grant, sender=[app for app in apps.get_app_configs() if app.models_module][-1])
