"""The example pack loads as it is, and its payloads are what its schemas and filters expect."""

import json
from pathlib import Path

import pytest
from django.core.management import call_command

from events.models import EventType
from events.schemas import Validator
from project.apply import Outcome, apply, read_files

EXAMPLES = Path("examples")

pytestmark = pytest.mark.django_db


def test_the_pack_is_applied_and_the_second_time_changes_nothing() -> None:
    found = read_files([EXAMPLES])
    assert {change.outcome for change in apply(found)} == {Outcome.CREATED}
    assert {change.outcome for change in apply(found)} == {Outcome.UNCHANGED}
