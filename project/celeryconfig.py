"""Celery's settings, in lower case: upper case makes Celery 5.7 warn for nothing. docs/architecture.md has reasons."""

from django.conf import settings
from kombu import Queue

from project import celerybroker

broker_url = settings.CELERY_BROKER_URL
_broker = celerybroker.kind(broker_url)
broker_transport_options = celerybroker.transport_options(
    broker_url,
    patience=0.5 if settings.PROCESS == "web" else 5,  # a web process must never wait; a worker lives from it
    prefix=settings.SQS_QUEUE_PREFIX,
)
broker_connection_timeout = 2
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
task_queues = [  # direct, declared by name
    Queue(name, routing_key=name, queue_arguments=celerybroker.queue_arguments(broker_url))
    for name in dict.fromkeys(task_routes.values())
]
# Early acknowledgement: the row's lock or lease is the real one, so a lost message costs a second, never work.
task_acks_late = False
task_reject_on_worker_lost = False
worker_prefetch_multiplier = 1
task_soft_time_limit = 60
task_time_limit = 90
# SQS has neither: what a worker would say of itself needs a queue for whoever listens.
worker_send_task_events = _broker != celerybroker.Kind.SQS
worker_enable_remote_control = _broker != celerybroker.Kind.SQS
# A child is replaced for its memory alone, not after so many tasks: while one is replaced, bells wait.
worker_max_memory_per_child = 200_000  # KiB beyond what the worker weighs before it has children (project/celery.py)
worker_soft_shutdown_timeout = 10.0
worker_hijack_root_logger = False
worker_enable_soft_shutdown_on_idle = False
