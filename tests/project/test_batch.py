"""Together, or one by one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from project.batch import is_transient, together_or_alone
from project.models import Tally

pytestmark = pytest.mark.django_db(transaction=True)


def store(names: Sequence[str]) -> int:
    for name in names:
        Tally.objects.create(name=name)
        if name == "bad":
            raise ValueError(name)
    return len(names)


def store_alone(name: str) -> int:
    try:
        with transaction.atomic():
            return store([name])
    except ValueError:
        return 0


def stored() -> set[str]:
    ours = Tally.objects.exclude(name__startswith="carillon")  # those are counted by threads of earlier tests
    return set(ours.values_list("name", flat=True))


def test_a_batch_is_done_together() -> None:
    with transaction.atomic():
        assert together_or_alone(["a", "b"], store, store_alone) == [2]
    assert stored() == {"a", "b"}


def test_a_batch_that_fails_is_undone_and_done_one_by_one() -> None:
    with transaction.atomic():
        assert together_or_alone(["a", "bad", "b"], store, store_alone) == [1, 0, 1]
    assert stored() == {"a", "b"}


def test_an_error_of_the_database_is_undone_as_well() -> None:
    Tally.objects.create(name="a")

    def alone(name: str) -> int:
        try:
            with transaction.atomic():
                return store([name])
        except IntegrityError:
            return 0

    with transaction.atomic():
        assert together_or_alone(["x", "a", "y"], store, alone) == [1, 0, 1]
    assert stored() == {"a", "x", "y"}


def test_what_alone_raises_rolls_everything_back() -> None:
    with pytest.raises(ValueError, match="bad"), transaction.atomic():
        together_or_alone(["a", "bad"], store, lambda name: store([name]))
    assert stored() == set()


def test_a_lost_connection_is_nobodys_fault() -> None:
    calls: list[str] = []

    def alone(name: str) -> int:
        calls.append(name)
        return 0

    def together(names: Sequence[str]) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return 0

    with pytest.raises(OperationalError), transaction.atomic():
        together_or_alone(["a", "b"], together, alone)
    assert calls == []
    connection.close()


def test_constraints_speak_at_the_row_at_fault() -> None:
    """Foreign keys are deferred to the commit in Django's tables; here they may not wait so long."""

    def refer(keys: Sequence[int]) -> int:
        with connection.cursor() as cursor:
            for key in keys:
                cursor.execute(
                    "INSERT INTO events_apikey (source_id, name, prefix, digest, scopes) VALUES (%s, '', '', %s, '{}')",
                    [key, str(key)],
                )
        return len(keys)

    def refer_alone(key: int) -> int:
        try:
            with transaction.atomic():
                return refer([key])
        except IntegrityError:
            return 0

    with transaction.atomic():
        assert together_or_alone([1, 2], refer, refer_alone) == [0, 0]


@pytest.mark.parametrize(
    ("statement", "transient"),
    [
        ("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$", True),
        ("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$", True),
        ("DO $$ BEGIN RAISE SQLSTATE '55P03'; END $$", True),
        ("SELECT 1/0", False),
    ],
)
def test_what_may_succeed_another_time_is_transient(statement: str, transient: bool) -> None:
    with pytest.raises(Exception) as raised, connection.cursor() as cursor:  # noqa: PT011  their kinds differ
        cursor.execute(statement)
    assert is_transient(raised.value) is transient
    assert not is_transient(ValueError())
