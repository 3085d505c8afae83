"""Prepared statements: on Django's connection, in its transaction, with its errors."""

import pytest
from django.db import IntegrityError, connection, transaction

from project import prepared

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
