"""What the expressions and templates of a run see."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.conf import settings
from django.core.signing import BadSignature, Signer

from project.expressions import Context, make_context
from project.tokens import SEPARATOR
from workflows.definition import Definition
from workflows.models import Run

FAILURE: Final = "$failure"  # in `Run.steps`, beside the steps' outcomes; no step can have this id


def scope(run: Run, definition: Definition, with_event: Context | None = None) -> Context:
    """`event`, `steps` and `run`; and `failure` ({step, error}) when the run is failing.

    `with_event` already has the event, and becomes the run's own.
    """
    context = with_event or make_context(event=run.input)
    context.set("steps", run.steps)
    links = links_of(run, definition)
    context.set("run", {"uid": str(run.uid), "version": run.version_id, "started_at": run.started_at, "links": links})
    context.set("failure", run.steps.get(FAILURE, {}))
    return context


def links_of(run: Run, definition: Definition) -> dict[str, str]:
    """Where to decide on the run's approvals: {step: address}. Whoever has an address may decide."""
    return {step.id: f"{settings.CARILLON_URL}/steps/{token_of(run.uid, step.id)}" for step in definition.approvals}


def token_of(run: UUID, step: str) -> str:
    """A name of the run's step that nobody can make up."""
    return _signer.sign(f"{run.hex}.{step}")


def step_of(token: str) -> tuple[UUID, str] | None:
    """The run and the step that the token names; None when it is none of ours."""
    try:
        run, _, step = _signer.unsign(token).partition(".")
    except BadSignature:
        return None
    return UUID(run), step


_signer = Signer(salt="carillon.step", sep=SEPARATOR)
