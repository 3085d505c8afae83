"""Celery's settings, in lower case: upper case makes Celery 5.7 warn for nothing. docs/architecture.md has reasons."""

from django.conf import settings
from kombu import Queue

broker_url = settings.CELERY_BROKER_URL
# A web process must never wait for Redis; a worker lives from it.
_patience = 0.5 if settings.PROCESS == "web" else 5
broker_transport_options = (
    {
        "visibility_timeout": 300,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 2,
        "unacked_mutex_expire": 30,
        "socket_timeout": _patience,
        "socket_connect_timeout": min(_patience, 2),
        "socket_keepalive": True,
        "health_check_interval": 10,
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    }
    if broker_url.startswith(("redis", "sentinel", "unix"))
    else {}
)
broker_connection_max_retries = None
broker_connection_retry_on_startup = True

task_publish_retry = False
task_serializer = "json"
accept_content = ["json"]
result_backend = None
task_ignore_result = True
task_track_started = False
task_create_missing_queues = False
# Each stage's queue, so that fleets are sized apart.
task_routes = {
    "events.route": "events",
    "events.replay": "events",
    "events.schedule": "events",
    "workflows.advance": "workflows",
    "workflows.close": "workflows",
    "workflows.answered": "workflows",
    "workflows.not_answered": "workflows",
    "workflows.request": "outside",
    "workflows.perform": "code",
    "notifications.deliver": "notifications",
    "notifications.recover": "notifications",
}
task_default_queue = "events"
task_queues = [
    Queue(name, routing_key=name) for name in dict.fromkeys(task_routes.values())
]  # direct, declared by name
# Early acknowledgement: the row's lock or lease is the real one, so a lost message costs a second, never work.
task_acks_late = False
task_reject_on_worker_lost = False
worker_prefetch_multiplier = 1
task_soft_time_limit = 60
task_time_limit = 90
worker_send_task_events = True
worker_max_tasks_per_child = 5000
worker_max_memory_per_child = 300_000  # KiB
worker_soft_shutdown_timeout = 10.0
worker_hijack_root_logger = False
worker_enable_soft_shutdown_on_idle = False
