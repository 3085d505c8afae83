from django.apps import AppConfig


class CarillonOutboxConfig(AppConfig):
    name = "carillon_outbox"
    verbose_name = "Carillon"
    default_auto_field = "django.db.models.BigAutoField"
