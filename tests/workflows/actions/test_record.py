"""`record.*` on real PostgreSQL."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workflows.actions.calls import run, run_one
from workflows.actions.record import merge_patch
from workflows.models import Record

pytestmark = pytest.mark.django_db


def kept() -> dict[tuple[str, str], tuple[Any, int]]:
    return {(row.collection, row.key): (row.value, row.version) for row in Record.objects.all()}


def test_put_keeps_the_value_and_counts_its_versions() -> None:
    assert run_one("record.put", collection="c", key="k", value={"a": 1}) == {
        "collection": "c",
        "key": "k",
        "version": 1,
    }
    assert run_one("record.put", collection="c", key="k", value=[2]) == {"collection": "c", "key": "k", "version": 2}
    assert kept() == {("c", "k"): ([2], 2)}


def test_a_change_tells_its_time() -> None:
    run_one("record.put", collection="c", key="k", value=1)
    before = Record.objects.get().updated_at
    run_one("record.patch", collection="c", key="k", value=2)
    assert Record.objects.get().updated_at > before


def test_patch_merges_into_what_is_there() -> None:
    run_one("record.put", collection="c", key="k", value={"a": {"b": 1, "c": 2}, "d": 3})
    output = run_one("record.patch", collection="c", key="k", value={"a": {"b": None, "e": 4}, "f": 5})
    assert output == {"collection": "c", "key": "k", "version": 2}
    assert kept() == {("c", "k"): ({"a": {"c": 2, "e": 4}, "d": 3, "f": 5}, 2)}


def test_patch_of_what_is_not_there_makes_it() -> None:
    assert run_one("record.patch", collection="c", key="k", value={"a": 1, "b": None})["version"] == 1
    assert kept() == {("c", "k"): ({"a": 1}, 1)}


def test_delete_removes_the_record_and_tells_its_version() -> None:
    run_one("record.put", collection="c", key="k", value=1)
    assert run("record.delete", *[{"collection": "c", "key": "k"}] * 2) == [
        {"collection": "c", "key": "k", "version": 1},
        {"collection": "c", "key": "k", "version": None},
    ]
    assert kept() == {}


def test_a_number_serves_as_a_key() -> None:
    assert run_one("record.put", collection="c", key=7, value=1)["key"] == "7"


def test_json_null_is_a_value() -> None:
    run_one("record.put", collection="c", key="k", value=None)
    run_one("record.patch", collection="c", key="k", value={"a": 1})
    assert kept() == {("c", "k"): ({"a": 1}, 2)}


# the test cases of RFC 7396, appendix A
RFC_7396: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7396)
def test_merging_is_that_of_rfc_7396(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result
    run_one("record.put", collection="c", key="k", value=target)
    run_one("record.patch", collection="c", key="k", value=patch)
    assert kept() == {("c", "k"): (result, 2)}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from("xyz"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)
CALLS = st.lists(
    st.fixed_dictionaries({"collection": st.sampled_from("cd"), "key": st.sampled_from("kl"), "value": JSON}),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(action=st.sampled_from(["record.put", "record.patch", "record.delete"]), before=CALLS, calls=CALLS)
def test_a_batch_does_what_its_calls_do_one_by_one(action: str, before: list[Any], calls: list[Any], db: None) -> None:
    if action == "record.delete":
        calls = [{"collection": one["collection"], "key": one["key"]} for one in calls]

    def outcome(batches: list[list[Any]]) -> Any:
        Record.objects.all().delete()
        run("record.put", *before)
        return [output for batch in batches for output in run(action, *batch)], kept()

    assert outcome([calls]) == outcome([[one] for one in calls])


@pytest.mark.parametrize(("action", "statements"), [("record.put", 1), ("record.patch", 2), ("record.delete", 1)])
def test_a_batch_takes_a_handful_of_statements(action: str, statements: int) -> None:
    calls: list[dict[str, Any]] = [
        {"collection": "c", "key": str(number % 50), "value": {"n": number}} for number in range(100)
    ]
    run("record.put", *calls)
    if action == "record.delete":
        calls = [{name: one[name] for name in ("collection", "key")} for one in calls]
    with CaptureQueriesContext(connection) as queries:
        run(action, *calls)
    work = [query["sql"] for query in queries if "workflows_record" in query["sql"]]
    assert len(work) == statements


@pytest.mark.django_db(transaction=True)
def test_patches_of_a_record_that_two_workers_make_at_once_both_count() -> None:
    """The record is not there when both start: each must see what the other one made."""
    inside, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with transaction.atomic():
            run_one("record.patch", collection="c", key="k", value={"first": 1})
            inside.set()
            go_on.wait(10)
        connection.close()

    def second() -> None:
        inside.wait(10)
        run_one("record.patch", collection="c", key="k", value={"second": 2})
        connection.close()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    _wait_for_a_waiter()
    go_on.set()
    for thread in threads:
        thread.join()
    assert kept() == {("c", "k"): ({"first": 1, "second": 2}, 2)}


def _wait_for_a_waiter() -> None:
    with connection.cursor() as cursor:
        for _ in range(1000):
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone() != (0,):
                return
            cursor.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("the second worker never came to the record")
