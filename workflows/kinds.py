"""Workflows as configuration documents: the text as it was written, comments and all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError

from project import documents
from project.fields import shown
from project.kinds import Conceal, Json, Kind, Refused, Written, kinds
from workflows.definition import DefinitionError, Problem, parse
from workflows.models import Run, Workflow, WorkflowVersion
from workflows.publishing import publish

# Whether a workflow is on is not part of what it does, so `enabled` stands beside the definition, not in it.
_ENABLED = re.compile(r"^enabled:.*$", re.MULTILINE)


@kinds.register("Workflow")
class WorkflowKind(Kind):
    model = Workflow
    after = ("Channel", "Template", "Recipient")

    @classmethod
    def problems(cls, written: Written) -> list[tuple[int, str]]:
        enabled = written.data.get("enabled", True)
        if isinstance(enabled, bool):
            return []
        return [(written.line(("enabled",)), f"enabled: should be true or false, not {shown(enabled)}")]

    @classmethod
    def refers_to(cls, data: Mapping[str, Json]) -> set[str]:
        """The workflows that its steps start."""
        steps = [step for section in ("steps", "on_failure") for step in _list(data.get(section))]
        undoing = [step["undo"] for step in steps if isinstance(step, dict) and isinstance(step.get("undo"), dict)]
        starting = [
            step for step in (*steps, *undoing) if isinstance(step, dict) and step.get("action") == "workflow.run"
        ]
        names = [step["with"].get("workflow") for step in starting if isinstance(step.get("with"), dict)]
        return {name for name in names if isinstance(name, str)}

    @classmethod
    def write(cls, row: Workflow | None, written: Written) -> None:
        try:
            version, _ = publish(_definition(written))
        except DefinitionError as error:
            raise Refused([_placed(written, problem) for problem in error.problems]) from error
        enabled = written.data.get("enabled", True)
        workflow = version.workflow
        if workflow.enabled != enabled:
            workflow.enabled = enabled
            workflow.save(update_fields=["enabled"])

    @classmethod
    def state(cls, row: Workflow) -> dict[str, Json]:
        latest = _latest(row)
        return {"definition": latest.definition if latest else None, "enabled": row.enabled}

    @classmethod
    def text(cls, row: Workflow, conceal: Conceal) -> str:
        latest = _latest(row)
        if latest is None:
            return ""
        [document] = documents.read(latest.source)
        enabled = {} if row.enabled else {"enabled": False}
        if document.line(("name",)) == document.line(("steps",)):  # all on one line: JSON, or YAML written like it
            return documents.write({"kind": cls.name, **document.data, **enabled})
        lines = [latest.source.strip()]
        if "kind" not in document.data:
            lines.insert(0, f"kind: {cls.name}")
        if not row.enabled:
            lines.append("enabled: false")
        return "\n".join(lines) + "\n"

    @classmethod
    def check(cls, row: Workflow) -> None:
        latest = _latest(row)
        try:
            if latest is not None and row.enabled:
                parse(latest.source)
        except DefinitionError as error:
            raise ValidationError([str(problem) for problem in error.problems]) from error

    @classmethod
    def facts(cls, row: Workflow) -> str:
        return "runs" if Run.objects.filter(workflow=row).exists() else ""


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _placed(written: Written, problem: Problem) -> tuple[int, str]:
    """The problem at its line in the file."""
    message = f"{problem.path}: {problem.message}" if problem.path else problem.message
    return written.first_line + problem.line - 1, message


def _latest(row: Workflow) -> WorkflowVersion | None:
    return row.versions.first()


def _definition(written: Written) -> Any:
    """What is to be published: the text without `enabled`, every line where it was."""
    if "enabled" not in written.data:
        return written.text
    without, found = _ENABLED.subn("", written.text, count=1)
    return without if found else {name: value for name, value in written.data.items() if name != "enabled"}
