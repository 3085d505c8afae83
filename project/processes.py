"""The processes Carillon consists of, and their command lines (docker-compose.yml has to say the same)."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Process:
    """A kind of process. `command` has `{names}` for what differs between a laptop and a cluster."""

    name: str
    command: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def words(self, **values: object) -> list[str]:
        """The command with its values filled in: what docker-compose.yml says."""
        return self.command.format_map(values).split()

    def argv(self, **values: object) -> list[str]:
        """The same for this interpreter: `celery …` becomes `…/python -m celery …`."""
        program, *rest = self.words(**values)
        return [sys.executable, *rest] if program == "python" else [sys.executable, "-m", program, *rest]

    @property
    def variables(self) -> dict[str, str]:
        """What it has in its environment besides the settings that all share."""
        return {"CARILLON_PROCESS": self.name, **self.environment}


# The settings are checked where the database is prepared, not again (a second each) in every process.
CELERY = {"CELERY_SKIP_CHECKS": "1"}
# SIGTERM lets a worker finish what it has begun, for worker_soft_shutdown_timeout at most.
CELERY_WORKER = {**CELERY, "REMAP_SIGTERM": "SIGQUIT"}

PROCESSES = {
    process.name: process
    for process in (
        Process(
            "web",
            "granian --interface wsgi project.wsgi:application --host {host} --port {port}"
            " --workers {web_processes} --blocking-threads 16 --respawn-failed-workers --workers-kill-timeout 5",
        ),
        # Actions are foreign code, so a worker has processes: they can be limited in time and memory.
        Process(
            "worker",
            "celery -A project worker -Q events,workflows -P prefork -c {worker_processes} -n worker@%h"
            " --without-gossip --without-mingle",
            CELERY_WORKER,
        ),
        # Steps of ordinary code may take minutes: routing and the other steps must not wait for them.
        Process(
            "performer",
            "celery -A project worker -Q code -P prefork -c {worker_processes} -n performer@%h"
            " --without-gossip --without-mingle",
            CELERY_WORKER,
        ),
        # A sender waits for the network most of the time; its threads share one asyncio loop.
        Process(
            "sender",
            "celery -A project worker -Q outside,notifications -P threads -c 4 -n sender@%h"
            " --without-gossip --without-mingle",
            CELERY_WORKER,
        ),
        # Messages of brokers, of whatever sources there are.
        Process("consumer", "python manage.py consume"),
        Process("clock", "python manage.py clock"),
        Process(
            "flower",
            "celery -A project flower --conf=project/flowerconfig.py --address={host} --port={flower_port}",
            CELERY,
        ),
        # Development only: keeps mail and chat for a person to see.
        Process(
            "inbox",
            "python project/inbox/smtp.py --port {inbox_smtp_port} --deliver-to http://{host}:{port}/inbox/mail",
        ),
    )
}
