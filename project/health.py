"""Whether everything that a Carillon needs is there: for load balancers, `doctor` and people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from celery import current_app
from django.db import Error as DatabaseError

from project.models import Heartbeat

OK: Final = "ok"


def readiness() -> dict[str, str]:
    """`{"database", "broker", "workers", "clock"}`, each "ok" or what is wrong with it. Takes a second at most."""
    try:
        alive = {beat.process: beat.detail for beat in Heartbeat.alive()}
    except DatabaseError as error:
        away = "unknown: they are seen through the database"
        return {"database": _line(error), "broker": broker(), "workers": away, "clock": away}
    return {"database": OK, "broker": broker(), **staff(alive)}


def staff(alive: Mapping[str, Any]) -> dict[str, str]:
    """Of these processes, by their names with the details of their heartbeats: `{"workers", "clock"}`, as above."""
    queues = {str(route) for route in current_app.conf.task_routes.values()}
    missing = sorted(queues - {queue for detail in alive.values() for queue in detail.get("queues", [])})
    return {
        "workers": f"nobody has worked on these queues for 20 s: {', '.join(missing)}" if missing else OK,
        "clock": OK if "clock" in alive else "has not ticked for 20 s; run `manage.py clock`",
    }


def broker() -> str:
    """Whether messages can be sent: "ok" or what is wrong."""
    try:
        with current_app.connection_for_write(connect_timeout=1) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=1)
    except Exception as error:  # each transport has its own exceptions
        return _line(error)
    return OK


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
