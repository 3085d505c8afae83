"""Settings of the hand-rolled service: Django's and Celery's defaults, where the job does not ask for more."""

import os

import environ

SECRET_KEY = "benchmark"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "benchmarks.chain.app"]
ROOT_URLCONF = "benchmarks.chain.urls"
DATABASES = {"default": environ.Env.db_url_config(os.environ["DATABASE_URL"])}
DATABASES["default"]["CONN_MAX_AGE"] = 300
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
REDIS_URL = os.environ["REDIS_URL"]
SINK_URL = os.environ["SINK_URL"]
API_KEY = os.environ["API_KEY"]
REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None, "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]}
