"""What the expressions and templates of a run see."""

from __future__ import annotations

from typing import Any, Final

from project.expressions import Context, make_context
from workflows.models import Run

FAILURE: Final = "$failure"  # in `Run.steps`, beside the steps' outcomes; no step can have this id


def scope(run: Run, **more: Any) -> Context:
    """`event`, `steps` and `run`; `failure` ({step, error}) when the run is failing; and what a step brings along."""
    return make_context(
        event=run.input,
        steps=run.steps,
        run={
            "uid": str(run.uid),
            "version": run.version_id,
            "started_at": run.started_at,
        },
        failure=run.steps.get(FAILURE, {}),
        **more,
    )
