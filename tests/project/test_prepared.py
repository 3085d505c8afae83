"""Prepared statements: on Django's connection, in its transaction, with its errors."""

import pytest
from django.db import IntegrityError, connection, transaction

from project import prepared
from project.models import Tally

INSERT = """
INSERT INTO project_tally (name, labels, value)
SELECT name, '{}', 1 FROM jsonb_to_recordset(%s::jsonb) AS given (name text)
"""


@pytest.mark.django_db(transaction=True)
def test_a_statement_is_planned_once_for_a_session() -> None:
    for _ in range(10):
        assert prepared.execute("SELECT %s::jsonb ->> 'a', 'planned once'", ['{"a": "100 %"}']) == [
            ("100 %", "planned once")
        ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%planned once%'")
        assert cursor.fetchone() == (1,)


@pytest.mark.django_db(transaction=True)
def test_it_is_undone_with_the_transaction_that_it_is_in() -> None:
    for _ in range(10):
        with pytest.raises(IntegrityError, match="one_tally_per_name_and_labels"), transaction.atomic():
            prepared.execute(INSERT, ['[{"name": "twice"}]'])
            with transaction.atomic():
                prepared.execute(INSERT, ['[{"name": "twice"}]'])
    assert prepared.execute("SELECT name FROM project_tally WHERE name = 'twice'") == []


@pytest.mark.django_db(transaction=True)
def test_a_new_session_prepares_anew() -> None:
    for _ in range(10):
        prepared.execute("SELECT 1")
    connection.close()
    assert prepared.execute("SELECT 1") == [(1,)]


@pytest.mark.django_db(transaction=True)
def test_a_plan_for_an_empty_table_is_forgotten_when_the_table_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE growing (id int, place int)")
        cursor.execute("CREATE INDEX ON growing (id)")
        cursor.execute("INSERT INTO growing VALUES (1, 1)")
        cursor.execute("ANALYZE growing")
        for _ in range(10):
            assert prepared.execute(GROWING, ["{7}"]) == []
        cursor.execute("INSERT INTO growing SELECT n, n FROM generate_series(1, 20000) AS n")
        assert prepared.execute(GROWING, ["{7}"]) == [(7,)]
        assert "Seq Scan" in plan()
        monkeypatch.setattr(prepared, "FORGOTTEN_AFTER", 0.0)
        assert prepared.execute(GROWING, ["{7}"]) == [(7,)]
        assert "Seq Scan" not in plan()


GROWING = "SELECT place FROM growing WHERE id = ANY (%s::int[])"


def plan() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_prepared_statements WHERE statement LIKE '%FROM growing%'")
        [(name,)] = cursor.fetchall()
        cursor.execute(f"EXPLAIN EXECUTE {name} ('{{7}}')")
        return str(cursor.fetchall())


@pytest.mark.django_db(transaction=True)
def test_what_the_orm_asks_is_planned_once_too() -> None:
    for _ in range(10):
        with prepared.queries():
            list(Tally.objects.filter(name="asked by the orm"))
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%FROM \"project_tally\"%'")
        assert cursor.fetchone() == (1,)
