"""`sql.*` on real databases of each kind."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from django.db import connection as own
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings
from sqlalchemy import Engine, column, exc, insert, table, text

from project import databases
from project.databases import Database
from tests import servers
from tests.live import wait_until
from tests.workflows.actions.calls import problems
from tests.workflows.actions.databases import KINDS, empty_database
from workflows.actions import Call, OutsideAction, StepError, actions
from workflows.foreign import engines
from workflows.foreign.once import DONE, prune
from workflows.foreign.results import plain

pytestmark = pytest.mark.django_db

MOMENT = {"postgresql": "timestamptz", "mysql": "datetime(6)", "sqlite": "datetime"}
BYTES = {"postgresql": "bytea", "mysql": "blob", "sqlite": "blob"}
JSON = {"postgresql": "jsonb", "mysql": "json", "sqlite": "json"}
UID = {"postgresql": "uuid", "mysql": "uuid", "sqlite": "char(36)"}


class Warehouse:
    """A database with the table `stock`, as a test uses it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database: Database = databases.parse(f"warehouse={url}")["warehouse"]
        self.dialect = self.database.dialect

    @property
    def engine(self) -> Engine:
        return engines.engine_of(self.database)

    def do(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def ask(self, statement: str) -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            return [dict(row) for row in connection.execute(text(statement)).mappings()]

    def one(self, statement: str) -> Any:
        [row] = self.ask(statement)
        [value] = row.values()
        return value


@pytest.fixture(params=KINDS)
def warehouse(request: pytest.FixtureRequest, tmp_path: Path, settings: Settings) -> Iterator[Warehouse]:
    with empty_database(request.param, tmp_path) as url:
        there = Warehouse(url)
        settings.WORKFLOW_DATABASES = {"warehouse": there.database}
        there.do("CREATE TABLE stock (sku varchar(20) PRIMARY KEY, n int NOT NULL DEFAULT 0, note varchar(50) UNIQUE)")
        there.do("INSERT INTO stock (sku, n) VALUES ('a', 1), ('b', 2)")
        yield there
        there.engine.dispose()


def call(run: UUID | None = None) -> Call:
    return Call(uid=uuid4(), run=run or uuid4(), workflow="w", step="step", attempt=1, context={})


def perform(action: str, run: UUID | None = None, **given: Any) -> Any:
    """What the performer gets; it is JSON."""
    cls = actions[action]
    assert issubclass(cls, OutsideAction)
    output = cls.model_validate({"database": "warehouse", **given}).perform(call(run))
    assert orjson.loads(orjson.dumps(output)) == output
    return output


def execute(statement: str, run: UUID | None = None, **parameters: Any) -> Any:
    return perform("sql.execute", run, statement=statement, parameters=parameters)


# --- sql.execute -----------------------------------------------------------------------------------------------------


def test_a_statement_changes_rows(warehouse: Warehouse) -> None:
    assert execute("UPDATE stock SET n = n - :sold WHERE sku = :sku;", sold=3, sku="b") == {"rows": 1, "returned": []}
    assert execute("UPDATE stock SET n = n WHERE sku = 'nobody'") == {"rows": 0, "returned": []}
    assert warehouse.ask("SELECT sku, n FROM stock ORDER BY sku") == [{"sku": "a", "n": 1}, {"sku": "b", "n": -1}]


def test_a_query_returns_its_rows(warehouse: Warehouse) -> None:
    found = execute(
        "SELECT sku, n FROM stock WHERE sku IN :skus OR note LIKE '%:x%' ORDER BY sku", skus=["a", "b", "z"]
    )
    assert found == {"rows": 2, "returned": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]}


def test_a_change_can_return_rows(warehouse: Warehouse) -> None:
    found = execute("INSERT INTO stock (sku, n) VALUES (:sku, 7) RETURNING sku, n + 1 AS more", sku="c")
    assert found == {"rows": 1, "returned": [{"sku": "c", "more": 8}]}


def test_of_many_rows_the_first_hundred_are_returned_and_all_are_counted(warehouse: Warehouse) -> None:
    numbers = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 950) "
    execute(
        "INSERT INTO stock (sku) " + numbers + "SELECT n FROM t"
        if warehouse.dialect != "postgresql"
        else numbers + "INSERT INTO stock (sku) SELECT n FROM t"
    )
    found = execute("SELECT sku FROM stock")
    assert found["rows"] == 952
    assert len(found["returned"]) == 100


def test_rows_that_are_too_large_are_refused_and_nothing_is_done(warehouse: Warehouse) -> None:
    with pytest.raises(StepError, match="the rows it returns are 292 KiB") as caught:
        execute("INSERT INTO stock (sku) VALUES ('c') RETURNING :long AS text", long="x" * 299_000)
    assert caught.value.permanent
    assert warehouse.one("SELECT count(*) FROM stock") == 2


def test_objects_are_passed_as_json(warehouse: Warehouse) -> None:
    warehouse.do(f"CREATE TABLE doc (id int PRIMARY KEY, body {JSON[warehouse.dialect]})")
    execute("INSERT INTO doc (id, body) VALUES (1, :body)", body={"a": [1, None]})
    body = warehouse.one("SELECT body FROM doc")
    assert (orjson.loads(body) if isinstance(body, str) else body) == {"a": [1, None]}


@pytest.mark.parametrize(
    ("statement", "parameters", "message"),
    [
        ("SELEC 1", {}, "begins with SELEC; known: SELECT"),
        ("DROP TABLE stock", {}, "begins with DROP"),
        ("COMMIT", {}, "begins with COMMIT"),
        ("-- nothing\n", {}, "holds no statement"),
        ("SELECT 1; SELECT 2", {}, "holds several statements"),
        ("SELECT 'it''s", {}, "a ' at character 12 is not closed"),
        ("SELECT :a, :b", {"a": 1, "c": 2}, 'unknown parameter of the statement "c"; known: a, b'),
        ("SELECT :a", {}, "the statement has :a, which needs a value here"),
    ],
)
def test_what_is_no_statement_is_refused_when_saved_and_when_run(
    warehouse: Warehouse, statement: str, parameters: dict[str, Any], message: str
) -> None:
    found = problems("sql.execute", database="warehouse", statement=statement, parameters=parameters)
    assert message in " ".join(found.values())
    with pytest.raises(StepError) as caught:
        execute(statement, **parameters)
    assert message in str(caught.value)
    assert caught.value.permanent


def test_what_looks_like_several_statements_may_be_one(warehouse: Warehouse) -> None:
    assert execute("SELECT ';:x' AS a /* ; :y */ WHERE 1 = 1; -- ; :z")["returned"] == [{"a": ";:x"}]


def test_values_do_not_become_part_of_the_sql(warehouse: Warehouse) -> None:
    [(path, message)] = problems(
        "sql.execute", database="warehouse", statement="DELETE FROM stock WHERE sku = '${{ event.id }}'"
    ).items()
    assert path == "statement"
    assert "Write :name in its place" in message
    execute("UPDATE stock SET note = :note WHERE sku = 'a'", note="'; DROP TABLE stock; --%s")
    assert warehouse.one("SELECT note FROM stock WHERE sku = 'a'") == "'; DROP TABLE stock; --%s"


def test_a_list_after_in_has_to_be_one(warehouse: Warehouse) -> None:
    for value, message in (("a", "should be a list"), ([], "the list is empty"), (["a"] * 1001, "at most 1000")):
        with pytest.raises(StepError, match=f"parameters.skus: .*{message}"):
            execute("SELECT 1 FROM stock WHERE sku IN :skus", skus=value)


def test_an_unknown_database_is_refused_with_the_known_ones(warehouse: Warehouse) -> None:
    found = problems("sql.execute", database="warehous", statement="SELECT 1")
    expected = 'unknown database "warehous", did you mean "warehouse"? known: warehouse (settings.WORKFLOW_DATABASES)'
    assert found == {"database": expected}
    with pytest.raises(StepError, match="database: unknown database") as caught:
        perform("sql.execute", database="warehous", statement="SELECT 1")
    assert caught.value.permanent


# --- sql.upsert ------------------------------------------------------------------------------------------------------


def test_a_row_is_added_then_changed(warehouse: Warehouse) -> None:
    given: dict[str, Any] = {"table": "stock", "key": {"sku": "c"}, "values": {"note": "new"}, "increment": {"n": 5}}
    assert perform("sql.upsert", **given) == {"created": True, "key": {"sku": "c"}}
    given["values"] = {"note": "old"}
    assert perform("sql.upsert", **given) == {"created": False, "key": {"sku": "c"}}
    assert perform("sql.upsert", **given) == {"created": False, "key": {"sku": "c"}}
    assert warehouse.ask("SELECT * FROM stock WHERE sku = 'c'") == [{"sku": "c", "n": 15, "note": "old"}]


def test_a_key_alone_makes_sure_that_there_is_a_row(warehouse: Warehouse) -> None:
    assert perform("sql.upsert", table="stock", key={"sku": "c"}) == {"created": True, "key": {"sku": "c"}}
    assert perform("sql.upsert", table="stock", key={"sku": "c"}) == {"created": False, "key": {"sku": "c"}}
    assert warehouse.one("SELECT count(*) FROM stock") == 3


@pytest.mark.parametrize("warehouse", ["postgresql"], indirect=True)
def test_a_table_may_have_partitions(warehouse: Warehouse) -> None:
    warehouse.do("CREATE TABLE sale (id int PRIMARY KEY, n int) PARTITION BY RANGE (id)")
    warehouse.do("CREATE TABLE sale_1 PARTITION OF sale FOR VALUES FROM (0) TO (100)")
    outputs = [perform("sql.upsert", table="sale", key={"id": 1}, increment={"n": 2}) for _ in range(2)]
    assert [output["created"] for output in outputs] == [True, False]
    assert warehouse.one("SELECT n FROM sale") == 4


def test_null_counts_as_zero(warehouse: Warehouse) -> None:
    warehouse.do("CREATE TABLE tally (id int PRIMARY KEY, n int)")
    warehouse.do("INSERT INTO tally (id, n) VALUES (1, NULL)")
    perform("sql.upsert", table="tally", key={"id": 1}, increment={"n": 2})
    assert warehouse.one("SELECT n FROM tally") == 2


def test_a_second_unique_column_does_not_lead_to_another_row(warehouse: Warehouse) -> None:
    warehouse.do("UPDATE stock SET note = 'mine' WHERE sku = 'a'")
    for sku in ("b", "c"):
        with pytest.raises(StepError) as caught:
            perform("sql.upsert", table="stock", key={"sku": sku}, values={"note": "mine"}, increment={"n": 5})
        assert caught.value.permanent
    assert warehouse.ask("SELECT sku, n FROM stock ORDER BY sku") == [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({"table": "stok"}, "table", 'unknown table of warehouse "stok", did you mean "stock"?'),
        ({"key": {"skuu": "a"}}, "key.skuu", 'unknown column of stock "skuu", did you mean "sku"? known: sku, n, note'),
        ({"key": {"sku": None}}, "key.sku", "cannot be null"),
        ({"key": {"n": 1}}, "key", "these columns are not unique in stock; unique are: sku · note"),
        ({"values": {"n": "many"}}, "values.n", '"many" is no value for INT'),
        ({"values": {"n": 1.5}}, "values.n", "1.5 is no value for INT"),
        ({"values": {"n": None}}, "values.n", "cannot be null"),
        ({"values": {"sku": "x"}}, "key.sku", "stands in `values` or `increment` as well"),
        ({"values": {"n": 1}, "increment": {"n": 1}}, "increment.n", "stands in `values` as well"),
        ({"increment": {"note": 1}}, "increment.note", "only numbers can be incremented"),
    ],
)
def test_what_does_not_fit_the_table_is_refused_when_saved_and_when_run(
    warehouse: Warehouse, given: dict[str, Any], path: str, message: str
) -> None:
    given = {"table": "stock", "key": {"sku": "a"}, **given}
    assert message in problems("sql.upsert", database="warehouse", **given)[path]
    with pytest.raises(StepError) as caught:
        perform("sql.upsert", **given)
    assert f"{path}: {message}" in str(caught.value)
    assert caught.value.permanent


def test_a_column_without_a_default_needs_a_value(warehouse: Warehouse) -> None:
    warehouse.do("CREATE TABLE price (id int PRIMARY KEY, amount int NOT NULL)")
    found = problems("sql.upsert", database="warehouse", table="price", key={"id": 1})
    assert list(found) == ["values.amount"]


def test_what_is_not_known_yet_is_left_to_the_run(warehouse: Warehouse) -> None:
    dynamic = "${{ event.data.x }}"
    for changes in (
        {"database": dynamic, "table": "x", "key": {"x": 1}},
        {"table": dynamic, "key": {"x": 1}},
        {"table": "stock", "key": dynamic},
        {"table": "stock", "key": {"sku": dynamic}, "values": {"n": dynamic}},
    ):
        assert problems("sql.upsert", **{"database": "warehouse", **changes}) == {}
    assert list(problems("sql.upsert", database="warehouse", table="stock", key=dynamic, values={"x": 1})) == [
        "values.x"
    ]


def test_a_new_column_is_found(warehouse: Warehouse) -> None:
    perform("sql.upsert", table="stock", key={"sku": "a"}, values={"n": 5})
    warehouse.do("ALTER TABLE stock ADD COLUMN place varchar(9)")
    perform("sql.upsert", table="stock", key={"sku": "a"}, values={"place": "x1"})
    assert warehouse.one("SELECT place FROM stock WHERE sku = 'a'") == "x1"


@pytest.mark.parametrize("warehouse", ["postgresql", "mariadb"], indirect=True)
def test_a_table_may_be_in_another_schema(warehouse: Warehouse) -> None:
    schema = f"other_{os.getpid()}"
    warehouse.do(f"CREATE SCHEMA {schema}")
    try:
        warehouse.do(f"CREATE TABLE {schema}.stock (sku varchar(20) PRIMARY KEY, place int)")
        assert perform("sql.upsert", table=f"{schema}.stock", key={"sku": "a"}, values={"place": 4})["created"]
        assert warehouse.one(f"SELECT place FROM {schema}.stock") == 4
        found = problems("sql.upsert", database="warehouse", table=f"{schema}.stok", key={"sku": "a"})
        assert f"known: {schema}.stock" in found["table"]
    finally:
        warehouse.do(f"DROP TABLE {schema}.stock")
        warehouse.do(f"DROP SCHEMA {schema}")


# --- values ----------------------------------------------------------------------------------------------------------

TYPED = [
    ("numeric(12,2)", 0.1 + 0.2, 0.3),
    ("numeric(12,2)", "12.50", 12.5),
    ("bigint", 2**60, 2**60),
    ("double precision", 1.25, 1.25),
    ("varchar(20)", "ä€😀", "ä€😀"),
    ("varchar(20)", 17, "17"),
    ("varchar(20)", {"a": 1}, '{"a":1}'),
    (MOMENT, "2026-11-24T12:00:00.5+01:00", "2026-11-24T11:00:00.500000Z"),
    ("date", "2026-11-24", "2026-11-24"),
    ("time", "22:30:00", "22:30:00"),
    (BYTES, base64.b64encode(b"\x00\xff").decode(), base64.b64encode(b"\x00\xff").decode()),
    (UID, "0189f7c2-0000-7000-8000-000000000001", "0189f7c2-0000-7000-8000-000000000001"),
    (JSON, {"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
    ("boolean", True, True),
    ("int", None, None),
]


@pytest.mark.parametrize(("type_", "value", "back"), TYPED, ids=lambda value: str(value)[:30])
def test_a_value_goes_in_and_comes_back_as_json(warehouse: Warehouse, type_: Any, value: Any, back: Any) -> None:
    type_ = type_[warehouse.dialect] if isinstance(type_, dict) else type_
    warehouse.do(f"CREATE TABLE typed (id int PRIMARY KEY, v {type_})")
    for _ in range(2):
        perform("sql.upsert", table="typed", key={"id": 1}, values={"v": value})
    [row] = execute("SELECT v FROM typed")["returned"]
    found = row["v"]
    if isinstance(back, dict) and isinstance(found, str):  # databases that keep JSON as text
        found = orjson.loads(found)
    if warehouse.dialect == "sqlite":  # it has five types; the others are text by agreement
        if type_ == "datetime":
            found = found.replace(" ", "T") + "Z"
        elif type_ == "time":
            found = found.removesuffix(".000000")
    if warehouse.dialect == "mysql" and type_ == "time":
        back = "81000s"  # MySQL's TIME is a duration
    assert found == back


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.decimals(),
        st.text(),
        st.binary(),
        st.uuids(),
        st.datetimes(),
        st.dates(),
        st.times(),
        st.timedeltas(),
        st.ip_addresses(),
        st.binary().map(lambda data: memoryview(data)),
        st.complex_numbers(),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner), st.tuples(inner)),
    max_leaves=5,
)


@given(json_values)
def test_whatever_a_driver_returns_becomes_json(value: Any) -> None:
    assert orjson.loads(orjson.dumps(plain(value), option=orjson.OPT_PASSTHROUGH_SUBCLASS)) == plain(value)


def test_values_are_told_as_everywhere_else() -> None:
    assert plain({"d": Decimal("1.50"), "at": datetime(2026, 1, 2, 3, 4), "on": date(2026, 1, 2)}) == {  # noqa: DTZ001
        "d": 1.5,
        "at": "2026-01-02T03:04:00Z",
        "on": "2026-01-02",
    }
    assert plain([b"\x00", UUID(int=1), timedelta(minutes=1), float("nan"), Decimal("Infinity")]) == [
        "AA==",
        "00000000-0000-0000-0000-000000000001",
        "60s",
        "nan",
        "Infinity",
    ]


# --- once ------------------------------------------------------------------------------------------------------------


def test_a_repetition_does_nothing_and_answers_the_same(warehouse: Warehouse) -> None:
    run = uuid4()
    statement = "INSERT INTO stock (sku, n) VALUES (:sku, 1) RETURNING sku"
    first = execute(statement, run, sku="c")
    assert first == {"rows": 1, "returned": [{"sku": "c"}]}
    assert execute(statement, run, sku="c") == first
    given = {"table": "stock", "key": {"sku": "c"}, "increment": {"n": 1}}
    other = uuid4()
    assert perform("sql.upsert", other, **given) == perform("sql.upsert", other, **given)
    assert warehouse.one("SELECT n FROM stock WHERE sku = 'c'") == 2
    assert warehouse.one("SELECT count(*) FROM carillon_done") == 2


def test_a_failure_leaves_no_key_behind(warehouse: Warehouse) -> None:
    run = uuid4()
    with pytest.raises(StepError):
        execute("INSERT INTO stock (sku) VALUES ('a')", run)
    assert warehouse.one("SELECT count(*) FROM carillon_done") == 0
    assert execute("INSERT INTO stock (sku) VALUES ('c')", run)["rows"] == 1


def test_performers_at_once_with_the_same_key_do_it_once(warehouse: Warehouse) -> None:
    execute("SELECT 1")  # makes the table
    for _ in range(5):
        before = warehouse.one("SELECT n FROM stock WHERE sku = 'a'")
        run, together = uuid4(), threading.Barrier(4)

        def work(run: UUID = run, together: threading.Barrier = together) -> Any:
            together.wait()
            return execute(
                "UPDATE stock SET n = n + 1 WHERE sku = 'a' RETURNING n"
                if warehouse.dialect != "mysql"
                else "UPDATE stock SET n = n + 1 WHERE sku = 'a'",
                run,
            )

        with ThreadPoolExecutor(4) as pool:
            outputs = [future.result() for future in [pool.submit(work) for _ in range(4)]]
        assert outputs == [outputs[0]] * 4
        assert warehouse.one("SELECT n FROM stock WHERE sku = 'a'") == before + 1


def test_performers_at_once_may_all_find_no_table_of_keys(warehouse: Warehouse) -> None:
    warehouse.one("SELECT 1")  # the engine is made
    together = threading.Barrier(4)

    def work(number: int) -> Any:
        together.wait()
        return perform("sql.upsert", table="stock", key={"sku": f"new{number}"})

    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(work, range(4)))
    assert [output["created"] for output in outputs] == [True] * 4
    assert warehouse.one("SELECT count(*) FROM carillon_done") == 4


_of_the_parent: list[Any] = []


def forked(work: Callable[[], object]) -> int:
    """The id of a child process that does the work, and is then killed before it could tell anybody."""
    if pid := os.fork():
        return pid
    _of_the_parent.append(connections["default"])  # and not to be closed by us
    try:
        del connections["default"]
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def end_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_performer_that_is_killed_after_its_commit_did_it_once(warehouse: Warehouse) -> None:
    run = uuid4()
    given = {"table": "stock", "key": {"sku": "a"}, "increment": {"n": 1}}
    assert end_of(forked(lambda: perform("sql.upsert", run, **given))) == -signal.SIGKILL
    assert warehouse.one("SELECT n FROM stock WHERE sku = 'a'") == 2
    assert perform("sql.upsert", run, **given) == {"created": False, "key": {"sku": "a"}}
    assert warehouse.one("SELECT n FROM stock WHERE sku = 'a'") == 2


@pytest.mark.parametrize("warehouse", ["postgresql", "mariadb"], indirect=True)
def test_a_performer_that_is_killed_before_its_commit_did_nothing(warehouse: Warehouse) -> None:
    execute("SELECT 1")
    run = uuid4()
    given = {"table": "stock", "key": {"sku": "a"}, "increment": {"n": 1}}
    with warehouse.engine.begin() as holder:
        holder.execute(text("UPDATE stock SET n = 10 WHERE sku = 'a'"))
        pid = forked(lambda: perform("sql.upsert", run, **given))
        wait_until(lambda: warehouse.one(BLOCKED[warehouse.dialect]), what="the child waits for the row")
        os.kill(pid, signal.SIGKILL)
        end_of(pid)
    perform("sql.upsert", run, **given)
    assert warehouse.one("SELECT n FROM stock WHERE sku = 'a'") == 11


def test_old_keys_are_removed_a_thousand_at_a_time(warehouse: Warehouse) -> None:
    execute("SELECT 1")
    old = [{"key": f"old{n}", "at": datetime(2026, 1, 2, tzinfo=UTC)} for n in range(1200)]
    with warehouse.engine.begin() as connection:
        connection.execute(insert(DONE), old)
    assert [prune(warehouse.database) for _ in range(3)] == [1000, 200, 0]
    assert warehouse.one("SELECT count(*) FROM carillon_done") == 1


# --- limits and errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO stock (sku) VALUES ('a')",
        "INSERT INTO stock (sku, n) VALUES ('c', NULL)",
        "SELECT nope FROM stock",
        "SELECT * FROM nope",
        "SELECT FROM WHERE",
    ],
)
def test_what_will_not_get_better_is_not_tried_again(warehouse: Warehouse, statement: str) -> None:
    with pytest.raises(StepError, match=r"^warehouse: ") as caught:
        execute(statement)
    assert caught.value.permanent
    assert "\n" not in str(caught.value)


def test_a_row_that_somebody_else_holds_is_tried_again(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "LOCK_SECONDS", 1)
    warehouse.engine.dispose()
    engines._engines.clear()
    execute("SELECT 1")
    with warehouse.engine.begin() as holder:
        holder.execute(text("UPDATE stock SET n = 10 WHERE sku = 'a'"))
        with pytest.raises(StepError, match=r"(database is locked|lock timeout|Lock wait timeout)") as caught:
            execute("UPDATE stock SET n = 11 WHERE sku = 'a'")
    assert not caught.value.permanent


BLOCKED = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity "
    "WHERE wait_event_type = 'Lock' AND datname = current_database()",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE state = 'Updating' AND db = database()",
}


@pytest.mark.parametrize("warehouse", ["postgresql", "mariadb"], indirect=True)
def test_a_deadlock_is_tried_again(warehouse: Warehouse) -> None:
    execute("SELECT 1")
    for _ in range(5):  # the database chooses who fails
        with ThreadPoolExecutor(1) as pool, warehouse.engine.connect() as mine:
            mine.execute(insert(table("stock", column("sku"))), [{"sku": f"x{n}"} for n in range(50)])
            mine.execute(text("UPDATE stock SET n = 10 WHERE sku = 'b'"))
            theirs = pool.submit(execute, "UPDATE stock SET n = 5 WHERE sku IN ('a', 'b')")  # has a, waits for b
            wait_until(lambda: warehouse.one(BLOCKED[warehouse.dialect]), what="it waits for us")
            with suppress(exc.OperationalError):
                mine.execute(text("UPDATE stock SET n = 5 WHERE sku = 'a'"))
            mine.rollback()
        if isinstance(error := theirs.exception(), StepError):
            assert "deadlock" in str(error).lower()
            assert not error.permanent
            return
    pytest.fail("the step never was the one that failed")


def test_a_statement_that_takes_too_long_is_stopped(warehouse: Warehouse, settings: Settings) -> None:
    settings.WORKFLOW_DATABASES_TIMEOUT = 1
    warehouse.engine.dispose()
    engines._engines.clear()
    endless = {
        "postgresql": "SELECT pg_sleep(20)",
        "mysql": "SELECT SLEEP(20)",
        "sqlite": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
    }[warehouse.dialect]
    began = time.monotonic()
    with pytest.raises(StepError) as caught:
        execute(endless)
    assert time.monotonic() - began < 5
    assert not caught.value.permanent
    assert execute("SELECT count(*) AS n FROM stock")["returned"] == [{"n": 2}]


@pytest.mark.parametrize("warehouse", ["postgresql", "mariadb"], indirect=True)
def test_a_connection_that_was_cut_is_replaced(warehouse: Warehouse) -> None:
    execute("SELECT 1")
    cut = {
        "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "mysql": "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
    }[warehouse.dialect]
    with suppress(exc.OperationalError), warehouse.engine.connect() as first, warehouse.engine.connect() as second:
        first.execute(text("SELECT 1"))
        for row in second.execute(text(cut)).all():
            if warehouse.dialect == "mysql":
                second.exec_driver_sql(f"KILL {row[0]}")
    assert execute("SELECT 1 AS one")["returned"] == [{"one": 1}]


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_server_that_is_away_is_tried_again_and_no_password_is_told(kind: str, settings: Settings) -> None:
    there = databases.parse(f"warehouse={kind}://ada:s3cr3t-word@127.0.0.1:1/x")
    settings.WORKFLOW_DATABASES = there
    with pytest.raises(StepError) as caught:
        execute("SELECT 1")
    assert not caught.value.permanent
    assert problems("sql.upsert", database="warehouse", table="x", key={"x": 1}) == {}, "the step will see"
    shown = f"{caught.value} {caught.value.__cause__!r} {there!r}"
    assert "s3cr3t" not in shown


def test_a_refused_password_is_not_told(warehouse: Warehouse, settings: Settings) -> None:
    if warehouse.dialect != "mysql":
        pytest.skip("the others ask for none here")
    url = warehouse.url.replace("root@", "nobody:s3cr3t-word@").replace("root:@", "nobody:s3cr3t-word@")
    settings.WORKFLOW_DATABASES = databases.parse(f"warehouse={url}")
    with pytest.raises(StepError, match="Access denied") as caught:
        execute("SELECT 1")
    assert "s3cr3t" not in f"{caught.value} {caught.value.__cause__!r}"


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, settings: Settings) -> None:
    settings.WORKFLOW_DATABASES = databases.parse(f"warehouse=sqlite:///{tmp_path}/nothing.db")
    with pytest.raises(StepError, match="unable to open database file"):
        execute("SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_may_not_be_made_is_asked_for(warehouse: Warehouse, settings: Settings, tmp_path: Path) -> None:
    if warehouse.dialect == "sqlite":
        pytest.skip("SQLite knows no rights")
    user = f"weak_{os.getpid()}"
    if warehouse.dialect == "postgresql":
        warehouse.do(f"CREATE ROLE {user} LOGIN")
        warehouse.do(f"GRANT ALL ON stock TO {user}")
        weak = warehouse.url.replace("postgres@", f"{user}@")
    else:
        name = warehouse.url.rpartition("/")[2]
        warehouse.do(f"CREATE USER {user}@'127.0.0.1'")
        warehouse.do(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO {user}@'127.0.0.1'")
        weak = warehouse.url.replace("root@", f"{user}@").replace("root:@", f"{user}@")
    settings.WORKFLOW_DATABASES = databases.parse(f"warehouse={weak}")
    try:
        with pytest.raises(StepError) as caught:
            execute("UPDATE stock SET n = 7 WHERE sku = 'a'")
        assert caught.value.permanent
        first, _, ddl = str(caught.value).partition("Have somebody run there: ")
        assert "there is no table carillon_done, and it may not be made" in first
        for statement in ddl.split("; "):
            warehouse.do(statement)
        if warehouse.dialect == "postgresql":
            warehouse.do(f"GRANT ALL ON carillon_done TO {user}")
        assert execute("UPDATE stock SET n = 7 WHERE sku = 'a'")["rows"] == 1
    finally:
        engines.engine_of(settings.WORKFLOW_DATABASES["warehouse"]).dispose()
        if warehouse.dialect == "postgresql":
            warehouse.do(f"DROP OWNED BY {user}")
            warehouse.do(f"DROP ROLE {user}")
        else:
            warehouse.do(f"DROP USER {user}@'127.0.0.1'")


def test_carillons_own_database_is_refused_by_whatever_name(settings: Settings) -> None:
    with own.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        [name] = cursor.fetchone()
    settings.WORKFLOW_DATABASES = databases.parse(f"warehouse={servers.postgres.url_of(name)}")
    with pytest.raises(StepError, match="warehouse is Carillon's own database") as caught:
        execute("SELECT 1")
    assert caught.value.permanent
    found = problems("sql.upsert", database="warehouse", table="x", key={"x": 1})
    assert "Carillon's own database" in found["database"]


def test_a_child_process_does_not_use_its_parents_connections(warehouse: Warehouse) -> None:
    ask = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()", "sqlite": "SELECT 1"}
    mine = warehouse.one(ask[warehouse.dialect])
    statement = f"UPDATE stock SET n = ({ask[warehouse.dialect]}) WHERE sku = 'a'"
    assert end_of(forked(lambda: execute(statement))) == -signal.SIGKILL
    if warehouse.dialect != "sqlite":
        assert warehouse.one("SELECT n FROM stock WHERE sku = 'a'") not in (1, mine)
    assert warehouse.one(ask[warehouse.dialect]) == mine, "the parent keeps its own"


ALONE = """
import uuid
import django
django.setup()
from workflows.actions import Call, actions
call = Call(uid=uuid.uuid4(), run=uuid.uuid4(), workflow="w", step="step", attempt=1, context={})
actions["sql.execute"](database="warehouse", statement="SELECT 1").perform(call)
"""


def test_without_sqlalchemy_the_step_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sqlalchemy.py").write_text(
        "raise ModuleNotFoundError('No module named sqlalchemy', name='sqlalchemy')"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "WORKFLOW_DATABASES": "warehouse=mysql://x@127.0.0.1:1/x",
    }
    done = subprocess.run([sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "need the package sqlalchemy, which is missing: pip install -r requirements-sql.txt" in done.stderr
