"""From a definition to a version that runs take."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from workflows.definition import DefinitionError
from workflows.models import Workflow, WorkflowVersion
from workflows.publishing import load, publish

pytestmark = pytest.mark.django_db

TEXT = "name: x\ndescription: first\nsteps: [{id: a, action: transform, with: {values: 1}}]  # as it was written\n"


def test_the_first_publication_makes_the_workflow() -> None:
    version, new = publish(TEXT)
    assert new
    assert (version.number, version.workflow.name, version.workflow.description) == (1, "x", "first")
    assert version.source == TEXT
    assert load(version.pk).steps[0].with_ == {"values": 1}


def test_a_change_is_a_new_version_and_the_old_one_stays() -> None:
    first, _ = publish(TEXT)
    second, new = publish(TEXT.replace("values: 1", "values: 2").replace("first", "second"))
    assert new
    assert (second.number, second.workflow_id) == (2, first.workflow_id)
    assert Workflow.objects.get().description == "second"
    assert load(first.pk).steps[0].with_ == {"values": 1}
    assert load(second.pk).steps[0].with_ == {"values": 2}


def test_what_says_the_same_adds_no_version() -> None:
    first, _ = publish(TEXT)
    same, new = publish("steps:\n- {action: transform, id: a, with: {values: 1}}\nname: x\ndescription: first\n")
    assert (same, new) == (first, False)


def test_going_back_to_an_old_definition_is_a_new_version() -> None:
    publish(TEXT)
    publish(TEXT.replace("values: 1", "values: 2"))
    version, new = publish(TEXT)
    assert (version.number, new) == (3, True)


def test_1_and_1_point_0_are_different_values() -> None:
    publish(TEXT)
    assert publish(TEXT.replace("values: 1", "values: 1.0"))[1]


def test_a_mapping_is_kept_as_yaml_and_may_leave_out_its_name() -> None:
    steps = [{"id": "a", "action": "transform", "with": {"values": {"on": "yes", "text": "a\nb\n", "n": 1.0}}}]
    version, _ = publish({"steps": steps}, name="x")
    assert version.source.startswith("name: x\nsteps:\n- id: a\n")
    assert publish(version.source) == (version, False)
    assert load(version.pk).steps[0].with_ == {"values": {"on": "yes", "text": "a\nb\n", "n": 1.0}}


def test_a_definition_for_another_workflow_is_refused() -> None:
    with pytest.raises(DefinitionError, match='this is the workflow "y", not "x"'):
        publish(TEXT, name="y")


def test_a_wrong_definition_publishes_nothing() -> None:
    with pytest.raises(DefinitionError):
        publish(TEXT.replace("transform", "nothing"))
    assert not Workflow.objects.exists()


def test_a_version_is_read_once_per_process() -> None:
    version, _ = publish(TEXT)
    load(version.pk)
    with CaptureQueriesContext(connection) as queries:
        assert load(version.pk) is load(version.pk)
    assert len(queries) == 0


@pytest.mark.django_db(transaction=True)
def test_publications_at_the_same_time_get_numbers_one_after_the_other() -> None:
    threads = [threading.Thread(target=_publish, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(WorkflowVersion.objects.values_list("number", flat=True)) == [1, 2, 3, 4, 5, 6]


def _publish(number: int) -> None:
    publish(TEXT.replace("values: 1", f"values: {number}"))
    connection.close()
