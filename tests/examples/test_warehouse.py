"""The example of docs/how-to/write-another-database.md, on each kind of database."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from pytest_django import Settings
from sqlalchemy import text

from project import databases
from project.expressions import make_context
from tests.workflows.actions.databases import KINDS, empty_database
from workflows.actions import Call, OutsideAction
from workflows.foreign.engines import engine_of
from workflows.publishing import load, publish

FOLDER = Path(__file__).parents[2] / "examples" / "warehouse"
EVENT = {
    "time": "2026-11-24T12:00:00Z",
    "data": {"order_id": "A-1", "amount": 120.5, "customer": "ada", "skus": ["bell", "rope"]},
}


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS)
def test_a_sale_is_counted_once_however_often_its_steps_are_performed(
    kind: str, tmp_path: Path, settings: Settings
) -> None:
    with empty_database(kind, tmp_path) as url:
        settings.WORKFLOW_DATABASES = databases.parse(f"warehouse={url}")
        engine = engine_of(settings.WORKFLOW_DATABASES["warehouse"])
        with engine.begin() as connection:
            for statement in (FOLDER / "warehouse.sql").read_text().split(";\n"):
                if statement:
                    connection.execute(text(statement))
        documents = yaml.safe_load_all((FOLDER / "warehouse.yaml.example").read_text())
        version, _ = publish(next(document for document in documents if document["kind"] == "Workflow"))
        context = make_context(event=EVENT, steps={}, run={}, failure={})
        run = uuid4()
        for attempt in (1, 2):
            for step in load(version.pk).steps:
                action = step.action_class.model_validate(step.values.render(context))
                assert isinstance(action, OutsideAction)
                action.perform(Call(uid=uuid4(), run=run, workflow="w", step=step.id, attempt=attempt, context={}))
        with engine.begin() as connection:
            assert connection.execute(text("SELECT sku, n FROM stock ORDER BY sku")).all() == [("bell", 9), ("rope", 9)]
            assert connection.execute(text("SELECT orders, amount FROM daily")).all() == [(1, 120.5)]
            assert connection.scalar(text("SELECT count(*) FROM orders")) == 1
        engine.dispose()
