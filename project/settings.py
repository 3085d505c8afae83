"""Settings: the one place that reads the environment. `.env.example` lists every variable."""

import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy

from project import celerybroker, databases
from project.environment import Shared

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
environ.Env.read_env(BASE_DIR / ".env")

# A running local stack (`make run`) leaves its addresses in this file, so that commands in a second terminal find it.
DATA_DIR = Path(env.str("DATA_DIR", str(BASE_DIR / ".data"))).resolve()
if not env.str("DATABASE_URL", ""):
    environ.Env.read_env(DATA_DIR / "carillon.env")

DEBUG = env.bool("DEBUG", False)


def required(name: str, remedy: str) -> str:
    """The variable's value; without it, an error that says how to get one."""
    value: str = env.str(name, "")
    if not value:
        raise ImproperlyConfigured(f"{name} is not set. {remedy}")
    return value


# Type checkers and the builder of static files import the settings without a stack beside them.
OFFLINE = env.bool("CARILLON_OFFLINE", False)
if OFFLINE:
    env.ENVIRON.setdefault("SECRET_KEY", "offline")
    env.ENVIRON.setdefault("SECRET_KEYS", "6MwGmoPHmdPjXdvtYQ1Fq3Ee6TTUkkq0sXyv7qkIuZk=")
    env.ENVIRON.setdefault("DATABASE_URL", "postgres://offline@127.0.0.1:1/carillon")  # nobody is there

SECRET_KEY = required("SECRET_KEY", "Any long random text, e.g. from `openssl rand -base64 48`.")
SECRET_KEYS: list[str] = required(
    "SECRET_KEYS",
    "Keys that encrypt secrets at rest, separated by commas, the newest first. Make one with "
    '`python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"`.',
).split(",")
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# `${NAME}` in a channel's or source's settings is looked up here, when it is used.
ENVIRONMENT: Mapping[str, str] = Shared()

# --- applications ----------------------------------------------------------------------------------------------------

# Apps of the installation's own, with their models, actions and channels.
CARILLON_APPS: list[str] = env.list("CARILLON_APPS", default=["examples.ops"])
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "auditlog",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "project",
    "notifications",
    "workflows",
    "events",
    *(["project.inbox"] if DEBUG else []),
    *CARILLON_APPS,
]

MIDDLEWARE = [
    "project.probes.probes",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "project.two_factor_pages.demand",
    "project.audit.sign",
    "workflows.links.conceal",
]

# What a request to /api/v1/ or /hooks/ passes (project/wsgi.py).
API_MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "project" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if not DEBUG
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEBUG

# --- security --------------------------------------------------------------------------------------------------------

HTTPS = env.bool("HTTPS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31536000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
BEHIND_PROXY = env.bool("BEHIND_PROXY", False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# Everybody who logs in needs a second factor: who has none sets it up first (project/two_factor_pages.py).
REQUIRE_TWO_FACTOR = env.bool("REQUIRE_TWO_FACTOR", False)
OTP_TOTP_ISSUER = "Carillon"

# After so many wrong passwords a name is locked, for whoever tries from the same address, for so many minutes.
AXES_FAILURE_LIMIT = env.int("LOGIN_FAILURES", 5)
AXES_COOLOFF_TIME = timedelta(minutes=env.int("LOGIN_LOCK_MINUTES", 15))
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # the name alone would let anybody lock anybody out
AXES_CLIENT_IP_CALLABLE = "project.login.address_of"
AXES_USERNAME_CALLABLE = "project.login.name_of"
AXES_LOCKOUT_CALLABLE = "project.login.locked"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # so that waiting helps, whatever others go on trying
AXES_DISABLE_ACCESS_LOG = True  # it grows with every login; the log has them
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

# Changes of the configuration are kept with their values, not as texts (project/audit.py says which, and of what).
AUDITLOG_STORE_JSON_CHANGES = True
AUDITLOG_USE_FK_STRING_REPRESENTATION = True
AUDITLOG_CID_HEADER = None

# Hosts, `host:port`, addresses and networks that outgoing HTTP may reach although they are private.
OUTBOUND_ALLOW: list[str] = env.list("OUTBOUND_ALLOW", default=[])

# --- PostgreSQL ------------------------------------------------------------------------------------------------------

# What this process is called in pg_stat_activity: "web", "worker", "clock", "migrate" …
_command = sys.argv[1] if len(sys.argv) > 1 and sys.argv[0].endswith("manage.py") else "python"
PROCESS = env.str("CARILLON_PROCESS", _command)

DATABASES: dict[str, dict[str, Any]] = {
    "default": environ.Env.db_url_config(
        required(
            "DATABASE_URL",
            "For example postgres://user:password@host/carillon; a local stack by `make run` brings its own.",
        )
    )
}
DATABASES["default"].update(
    ENGINE="django.db.backends.postgresql",
    CONN_MAX_AGE=300,
    CONN_HEALTH_CHECKS=True,
)
DATABASES["default"].setdefault("OPTIONS", {}).update(
    application_name=f"carillon-{PROCESS}",
    connect_timeout=env.int("DATABASE_CONNECT_TIMEOUT", 3),
    # A host that is gone without a word is given up; by itself TCP waits a quarter of an hour for it.
    tcp_user_timeout=10_000,  # milliseconds
    keepalives_idle=10,
    keepalives_interval=5,
    # Only for what goes through project/prepared.py.
    prepare_threshold=env.int("DATABASE_PREPARE_AFTER", 5) or None,
    options=" ".join(
        f"-c {name}={value}"
        for name, value in {
            "statement_timeout": env.str("DATABASE_STATEMENT_TIMEOUT", "30s"),
            "lock_timeout": "10s",
            "idle_in_transaction_session_timeout": "60s",
            # What is prepared is the same for all values. Else PostgreSQL would plan anew what looks dearer that way.
            "plan_cache_mode": "force_generic_plan",
        }.items()
    )
    if PROCESS != "migrate"
    else "",
)

# --- Celery and its broker, and the cache ----------------------------------------------------------------------------

REDIS_URL = env.str("REDIS_URL", "")
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", "") or REDIS_URL or "redis://localhost:6379/0"
if not REDIS_URL and celerybroker.is_redis_url(CELERY_BROKER_URL):
    REDIS_URL = CELERY_BROKER_URL
SQS_QUEUE_PREFIX = env.str("SQS_QUEUE_PREFIX", "carillon-")
# Bells ask the cache whether one is already waiting. A web request never waits for it: doorbell.py has its own thread.
# Where there is no Redis, a table is as good (project/migrations/0006_cache_table.py).
CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "project.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "carillon",
        "OPTIONS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "health_check_interval": 10},
    }
    if REDIS_URL
    else {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "carillon_cache",
        "KEY_PREFIX": "carillon",
    }
}
# How long the broker may be silent before the clock does the work of the bells itself.
CLOCK_DRAINS_AFTER = env.float("CLOCK_DRAINS_AFTER", 10.0)

# --- HTTP API --------------------------------------------------------------------------------------------------------

EVENT_MAX_BYTES = env.int("EVENT_MAX_BYTES", 256 * 1024)
BATCH_MAX_BYTES = env.int("BATCH_MAX_BYTES", 5 * 1024 * 1024)
BATCH_MAX_EVENTS = env.int("BATCH_MAX_EVENTS", 1000)
DATA_UPLOAD_MAX_MEMORY_SIZE = BATCH_MAX_BYTES

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["events.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["project.api.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["project.api.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "project.api.CursorPagination",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "project.api.problem",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,  # the Accept header chooses; `format` is no parameter
    "PAGE_SIZE": 50,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Carillon",
    "DESCRIPTION": "Events in, database updates and notifications out.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "RunState": "workflows.models.RunState",
        "StepState": "workflows.models.StepState",
        "DeliveryState": "notifications.models.DeliveryState",
    },
}

# --- what Carillon may touch -----------------------------------------------------------------------------------------

# Models that `database.*` steps may write, as `app.Model`; nothing else can be reached from a workflow.
WORKFLOW_MODELS: list[str] = env.list("WORKFLOW_MODELS", default=["ops.Incident", "ops.Order"])
# Celery tasks that `task.call` steps may name: names and patterns (`billing.*`).
WORKFLOW_TASKS: list[str] = env.list("WORKFLOW_TASKS", default=[])

# Other databases that `sql.*` steps may write, by name.
try:
    WORKFLOW_DATABASES: databases.Databases = databases.parse(env.str("WORKFLOW_DATABASES", ""))
except ValueError as error:
    raise ImproperlyConfigured(f"WORKFLOW_DATABASES: {error}") from None
# Seconds that one statement there may take.
WORKFLOW_DATABASES_TIMEOUT = env.int("WORKFLOW_DATABASES_TIMEOUT", 30)

# --- mail and the local inbox ----------------------------------------------------------------------------------------

vars().update(env.email_url("EMAIL_URL", default="smtp://localhost:1025"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", "Carillon <carillon@localhost>")

# The inbox keeps mail and chat for a developer to see; with DEBUG=0 it does not exist.
INBOX = DEBUG
INBOX_SMTP_PORT = env.int("INBOX_SMTP_PORT", 1025)

FLOWER_URL = env.str("FLOWER_URL", "")
FLOWER_BASIC_AUTH = env.str("FLOWER_BASIC_AUTH", "")
CARILLON_URL = env.str("CARILLON_URL", "http://localhost:8000")

# --- admin -----------------------------------------------------------------------------------------------------------

# How many runs in 7 days a saved subscription may start more, or fewer, before the admin asks whether that is meant.
SUBSCRIPTION_CONFIRM_ABOVE = env.int("SUBSCRIPTION_CONFIRM_ABOVE", 100)

LOGIN_URL = reverse_lazy("admin:login")
FORMAT_MODULE_PATH = "project.formats"
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Carillon",
    "SITE_HEADER": "Carillon",
    "SITE_SYMBOL": "notifications_active",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("carillon/icon.svg")}],
    "SITE_URL": None,
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "BORDER_RADIUS": "6px",
    "STYLES": [lambda request: static("carillon/carillon.css"), lambda request: static("carillon/access.css")],
    "SCRIPTS": [lambda request: static("carillon/live.js")],
    "ACCOUNT": {
        "navigation": [
            {"title": "Two-factor login", "link": reverse_lazy("two_factor")},
            {"title": "Change password", "link": reverse_lazy("admin:password_change")},
        ]
    },
    "COLORS": {
        "primary": {
            "50": "oklch(98.4% .014 180.72)",
            "100": "oklch(95.3% .051 180.801)",
            "200": "oklch(91% .096 180.426)",
            "300": "oklch(85.5% .138 181.071)",
            "400": "oklch(77.7% .152 181.912)",
            "500": "oklch(70.4% .14 182.503)",
            "600": "oklch(51.1% .096 186.391)",
            "700": "oklch(43.7% .078 188.216)",
            "800": "oklch(38.6% .063 188.416)",
            "900": "oklch(32% .052 188)",
            "950": "oklch(27.7% .046 192.524)",
        }
    },
    "DASHBOARD_CALLBACK": "events.dashboard.dashboard",
    "SIDEBAR": {"show_search": True, "navigation": "project.navigation.sidebar"},
}

# --- logs ------------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", "INFO")
LOG_FORMAT = env.str("LOG_FORMAT", "console" if DEBUG else "json")
LOGGING_CONFIG = "project.log.configure"
LOGGING: dict[str, Any] = {"level": LOG_LEVEL, "format": LOG_FORMAT}

SILENCED_SYSTEM_CHECKS: list[str] = []
