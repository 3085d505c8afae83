"""`task.call`: have any Celery task done by whoever serves its queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar

from celery import current_app
from django.conf import settings
from django.utils import timezone
from kombu import Queue
from kombu.exceptions import OperationalError
from pydantic import AfterValidator, Field

from project.durations import Duration, format_duration
from project.expressions import is_dynamic
from project.retry import RetryPolicy
from workflows.actions import Call, OutsideAction, StepError, Wait, action
from workflows.actions.base import Json, Named, Rehearsal


def _positive(duration: timedelta) -> timedelta:
    if not duration:
        raise ValueError("must be longer than 0s")
    return duration


@action("task.call")
class CallTask(OutsideAction):
    """Send a task, and wait for what it returns, which is the output. Output without `wait`: {"task_id": …}.

    The worker needs to know nothing of Carillon: Celery itself sends the result on to the task that Carillon names.
    """

    default_retry: ClassVar[RetryPolicy] = RetryPolicy(attempts=6, delay=timedelta(seconds=2))
    default_timeout: ClassVar[timedelta] = timedelta(seconds=30)

    task: Annotated[str, Field(min_length=1), Named("tasks")]
    queue: Annotated[str, Field(min_length=1)]
    args: list[Json] = []
    kwargs: dict[str, Json] = {}
    wait: bool = True
    timeout: Annotated[Duration, AfterValidator(_positive)] = timedelta(hours=1)

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        if not is_dynamic(given["task"]) and (message := objection(given["task"])):
            yield "task", message

    def perform(self, call: Call) -> Json | Wait:
        if message := objection(self.task):
            raise StepError(message, permanent=True)
        try:
            self._send(call)
        except OperationalError as error:
            raise StepError(f"the broker does not take the task: {error}") from error
        if not self.wait:
            return {"task_id": call.key}
        return Wait(until=timezone.now() + self.timeout)

    def rehearse(self, call: Call) -> Rehearsal:
        if message := objection(self.task):
            raise StepError(message, permanent=True)
        would = f"have the queue {self.queue} do the task {self.task}"
        return Rehearsal(would, known="unknown") if self.wait else Rehearsal(would, {"task_id": call.key})

    def wake(self, call: Call, output: Json) -> Json:
        raise StepError(f"{self.task} has not answered within {format_duration(self.timeout)}", permanent=True)

    def _send(self, call: Call) -> None:
        # A foreign queue is declared by whoever serves it: here it is only named.
        current_app.send_task(
            self.task,
            args=self.args,
            kwargs=self.kwargs,
            task_id=call.key,
            queue=Queue(self.queue, no_declare=True),  # type: ignore[arg-type]  # celery-types knows names only
            link=_answer("workflows.answered", step=str(call.uid)) if self.wait else None,
            link_error=_answer("workflows.not_answered", step=str(call.uid), task=self.task) if self.wait else None,
        )


def objection(name: str) -> str:
    """Why the task must not be called; "" when it may."""
    if name in current_app.conf.task_routes or name.startswith("celery."):
        return f"{name} is Carillon's own"
    patterns = settings.WORKFLOW_TASKS
    if any(fnmatchcase(name, pattern) for pattern in patterns):
        return ""
    return f"{name} must not be called; WORKFLOW_TASKS allows: {', '.join(patterns) or 'none'}"


def _answer(to: str, **kwargs: str) -> Any:
    """What a foreign worker sends when its task has ended."""
    return current_app.signature(to, kwargs=kwargs).set(queue=current_app.conf.task_routes[to], serializer="json")
