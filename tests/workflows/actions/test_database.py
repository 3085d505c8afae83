"""`database.*` on real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pytest_django import Settings

from examples.ops.models import Incident, Order
from notifications.models import Channel, Delivery, Recipient
from tests.workflows.actions.calls import problems, run, run_one
from workflows.actions import StepError
from workflows.models import Workflow, WorkflowVersion

pytestmark = pytest.mark.django_db


def incident(service: str = "shop", **values: Any) -> Any:
    return run_one(
        "database.upsert", model="ops.Incident", key={"service": service}, values={"status": "failed", **values}
    )


def order(order_id: str = "A1", **values: Any) -> Any:
    return run_one("database.upsert", model="ops.Order", key={"order_id": order_id}, values={"amount": 1, **values})


@pytest.fixture
def more_models(settings: Settings) -> None:
    settings.WORKFLOW_MODELS = [
        *settings.WORKFLOW_MODELS,
        *("notifications.Channel", "notifications.Delivery", "notifications.Recipient"),
        *("workflows.Workflow", "workflows.WorkflowVersion"),
    ]


# --- insert ----------------------------------------------------------------------------------------------------------


def test_insert_adds_rows_and_tells_their_keys() -> None:
    outputs = run(
        "database.insert",
        *[{"model": "ops.Incident", "values": {"service": service, "status": "failed"}} for service in "ab"],
    )
    rows = Incident.objects.in_bulk(field_name="service")
    assert outputs == [{"created": True, "key": {"id": rows[service].pk}} for service in "ab"]
    assert rows["a"].url == ""
    assert timezone.now() - rows["a"].updated_at < timedelta(minutes=1)


def test_a_second_row_with_the_same_unique_value_is_an_error_of_the_database() -> None:
    with pytest.raises(IntegrityError, match="service"):
        run("database.insert", *[{"model": "ops.Incident", "values": {"service": "a", "status": "failed"}}] * 2)


# --- upsert ----------------------------------------------------------------------------------------------------------


def test_upsert_adds_a_row_and_changes_it_the_second_time() -> None:
    key = {"service": "shop"}
    assert incident() == {"created": True, "changed": True, "key": key}
    first = Incident.objects.get()
    assert incident(status="mended", url="https://example.com/") == {"created": False, "changed": True, "key": key}
    second = Incident.objects.get()
    assert (second.pk, second.status, second.url) == (first.pk, "mended", "https://example.com/")
    assert second.updated_at > first.updated_at


def test_upsert_leaves_alone_what_is_not_named() -> None:
    order(customer="ada", paid_at="2026-01-01T00:00:00Z")
    order(amount=2)
    row = Order.objects.get()
    assert (row.amount, row.customer, row.paid_at) == (Decimal(2), "ada", datetime(2026, 1, 1, tzinfo=UTC))


def test_a_new_row_gets_the_defaults_of_the_model_and_of_the_database() -> None:
    order()
    row = Order.objects.get()
    assert row.customer == ""
    assert timezone.now() - row.paid_at < timedelta(minutes=1)


def test_upsert_without_values_only_sees_to_it_that_the_row_is_there(more_models: None) -> None:
    outputs = [run_one("database.upsert", model="workflows.Workflow", key={"name": "w"}) for _ in range(2)]
    assert [output["created"] for output in outputs] == [True, False]
    assert Workflow.objects.get().enabled


def test_upsert_by_several_fields_with_a_foreign_key(more_models: None) -> None:
    workflow = Workflow.objects.create(name="w")
    key = {"workflow": workflow.pk, "number": 1}
    for source in ("one", "two"):
        run_one(
            "database.upsert",
            model="workflows.WorkflowVersion",
            key=key,
            values={"source": source, "definition": {"steps": [source]}},
        )
    row = WorkflowVersion.objects.get()
    assert (row.workflow, row.source, row.definition) == (workflow, "two", {"steps": ["two"]})


def test_upsert_of_arrays_and_documents(more_models: None) -> None:
    calls = [
        {
            "model": "notifications.Recipient",
            "key": {"name": name},
            "values": {"topics": topics, "addresses": {"email": f"{name}@example.com"}},
        }
        for name, topics in (("ada", ["on-call", "a,b"]), ("bob", []))
    ]
    run("database.upsert", *calls)
    run("database.upsert", *calls)
    assert list(Recipient.objects.values_list("name", "topics", "addresses", "language")) == [
        ("ada", ["on-call", "a,b"], {"email": "ada@example.com"}, "en"),
        ("bob", [], {"email": "bob@example.com"}, "en"),
    ]


def test_increment_adds_to_what_is_there_and_starts_with_the_amount() -> None:
    step = {"model": "ops.Order", "key": {"order_id": "A1"}, "increment": {"amount": 2.5}}
    assert [output["created"] for output in run("database.upsert", step, step)] == [True, False]
    assert Order.objects.get().amount == 5
    run_one("database.upsert", **{**step, "increment": {"amount": -1}})
    assert Order.objects.get().amount == 4


def test_if_newer_keeps_the_row_that_is_newer() -> None:
    def paid(at: str, amount: int) -> Any:
        return run_one(
            "database.upsert",
            model="ops.Order",
            key={"order_id": "A1"},
            values={"paid_at": at, "amount": amount},
            if_newer="paid_at",
        )

    assert paid("2026-01-02T00:00:00Z", 2) == {"created": True, "changed": True, "key": {"order_id": "A1"}}
    assert paid("2026-01-01T00:00:00Z", 1) == {"created": False, "changed": False, "key": {"order_id": "A1"}}
    assert paid("2026-01-02T00:00:00Z", 3)["changed"] is False
    assert paid("2026-01-03T00:00:00Z", 4) == {"created": False, "changed": True, "key": {"order_id": "A1"}}
    assert Order.objects.get().amount == 4


def test_calls_for_the_same_row_take_effect_in_their_order() -> None:
    outputs = run(
        "database.upsert",
        *[
            {"model": "ops.Incident", "key": {"service": service}, "values": {"status": status}}
            for service, status in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5")]
        ],
    )
    assert [output["created"] for output in outputs] == [True, True, False, False, False]
    assert dict(Incident.objects.values_list("service", "status")) == {"a": "4", "b": "5"}


def test_a_hundred_upserts_are_one_statement() -> None:
    calls = [
        {"model": "ops.Order", "key": {"order_id": str(number)}, "values": {"amount": 1.5, "customer": "ada"}}
        for number in range(100)
    ]
    with CaptureQueriesContext(connection) as queries:
        outputs = run("database.upsert", *calls)
    assert [query["sql"] for query in queries if "orders_paid" in query["sql"]] == [queries[-1 - _ends(queries)]["sql"]]
    assert all(output["created"] for output in outputs)
    assert [output["key"]["order_id"] for output in outputs] == [str(number) for number in range(100)]


def _ends(queries: CaptureQueriesContext) -> int:
    return sum(query["sql"].startswith("RELEASE") for query in queries)


WRITES = st.lists(
    st.fixed_dictionaries(
        {
            "service": st.sampled_from("abc"),
            "values": st.dictionaries(st.sampled_from(["status", "url", "last_event"]), st.sampled_from("xyz")),
        }
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=WRITES, writes=WRITES)
def test_a_batch_does_what_its_calls_do_one_by_one(before: list[Any], writes: list[Any], db: None) -> None:
    """Also when the calls name different fields, as they may when `values` is an expression."""

    def steps(writes: list[Any]) -> list[Any]:
        return [
            {
                "model": "ops.Incident",
                "key": {"service": one["service"]},
                "values": {
                    "status": "new",
                    **one["values"],
                    **({"url": "https://example.com/"} if "url" in one["values"] else {}),
                },
            }
            for one in writes
        ]

    def outcome(batches: list[list[Any]]) -> Any:
        Incident.objects.all().delete()
        run("database.upsert", *steps(before))
        outputs = [output for batch in batches for output in run("database.upsert", *batch)]
        return outputs, list(Incident.objects.values_list("service", "status", "url", "last_event"))

    assert outcome([steps(writes)]) == outcome([[one] for one in steps(writes)])


# --- update and delete -----------------------------------------------------------------------------------------------


def test_update_changes_the_rows_that_where_names() -> None:
    incident("a")
    incident("b")
    incident("c", status="mended")
    before = Incident.objects.get(service="a").updated_at
    output = run_one("database.update", model="ops.Incident", where={"status": "failed"}, values={"status": "mended"})
    assert output == {"rows": 2}
    assert set(Incident.objects.values_list("status", flat=True)) == {"mended"}
    assert Incident.objects.get(service="a").updated_at > before
    assert run_one("database.update", model="ops.Incident", where={"service": "z"}, values={"status": "x"}) == {
        "rows": 0
    }


def test_update_increments_and_keeps_what_is_newer() -> None:
    order(amount=5, paid_at="2026-01-02T00:00:00Z")
    where = {"order_id": "A1"}
    run_one("database.update", model="ops.Order", where=where, increment={"amount": "0.10"})
    assert Order.objects.get().amount == Decimal("5.10")
    for paid_at, rows in (("2026-01-01T00:00:00Z", 0), ("2026-01-03T00:00:00Z", 1)):
        values = {"paid_at": paid_at, "customer": "ada"}
        assert run_one("database.update", model="ops.Order", where=where, values=values, if_newer="paid_at") == {
            "rows": rows
        }


def test_null_in_where_finds_the_rows_without_a_value(more_models: None) -> None:
    channel = Channel.objects.create(name="c", type="email")
    row = Delivery.objects.create(channel=channel, kind="email", message={})
    other = Delivery.objects.create(channel=channel, kind="email", message={}, finished_at=timezone.now())
    where = {"channel": channel.pk, "finished_at": None}
    assert run_one("database.update", model="notifications.Delivery", where=where, values={"reason": "x"}) == {
        "rows": 1
    }
    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.reason, other.reason) == ("x", "")


def test_delete_removes_the_rows_that_where_names() -> None:
    incident("a")
    incident("b")
    assert run_one("database.delete", model="ops.Incident", where={"service": "a"}) == {"rows": 1}
    assert run_one("database.delete", model="ops.Incident", where={"service": "a"}) == {"rows": 0}
    assert list(Incident.objects.values_list("service", flat=True)) == ["b"]


def test_delete_takes_along_what_the_model_says_and_counts_only_its_own_rows(more_models: None) -> None:
    workflow = Workflow.objects.create(name="w")
    WorkflowVersion.objects.create(workflow=workflow, number=1, source="", definition={})
    assert run_one("database.delete", model="workflows.Workflow", where={"name": "w"}) == {"rows": 1}
    assert not WorkflowVersion.objects.exists()


@pytest.mark.parametrize("action", ["database.update", "database.delete"])
def test_an_empty_where_is_refused(action: str) -> None:
    with pytest.raises(ValidationError, match="an empty `where` means every row of the table"):
        run_one(action, model="ops.Incident", where={})


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (19.99, "19.99"),
        (0.1 + 0.2, "0.30"),
        (100, "100.00"),
        ("12.5", "12.50"),
        (123456789012.0, "123456789012.00"),
        (-0.5, "-0.50"),
    ],
)
def test_numbers_become_decimals_without_binary_noise(value: Any, stored: str) -> None:
    order(amount=value)
    assert Order.objects.get().amount == Decimal(stored)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("2026-01-01T12:00:00Z", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2026-01-01T12:00:00.5+02:00", datetime(2026, 1, 1, 10, 0, 0, 500000, tzinfo=UTC)),
        ("2026-01-01T12:00:00", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_are_read_from_text(value: str, stored: datetime) -> None:
    order(paid_at=value)
    assert Order.objects.get().paid_at == stored


WRONG_VALUES: list[tuple[str, Any, str]] = [
    ("amount", "much", "“much” value must be a decimal number."),
    ("amount", 1.999, "Ensure that there are no more than 2 decimal places."),
    ("amount", 10**13, "Ensure that there are no more than 12 digits before the decimal point."),
    ("amount", True, "should be a number, not true"),
    ("amount", None, "cannot be null"),
    ("amount", {"a": 1}, 'should be a number, not {"a": 1}'),
    ("customer", "x" * 201, "Ensure this value has at most 200 characters (it has 201)."),
    ("customer", {"name": "ada"}, 'should be text, not {"name": "ada"}'),
    ("customer", True, "should be text, not true"),
    ("paid_at", "soon", "“soon” value has an invalid format."),
    ("paid_at", "2026-02-30T00:00:00Z", "“2026-02-30T00:00:00Z” value has"),
    ("paid_at", 1767225600, "1767225600 is no value for a DateTimeField"),
    ("updated_at", "2026-01-01T00:00:00Z", "the model sets this field itself (auto_now)"),
    (
        "custmer",
        "ada",
        'unknown field of ops.Order "custmer", did you mean "customer"? known: order_id, amount, customer, paid_at',
    ),
]


@pytest.mark.parametrize(("field", "value", "message"), WRONG_VALUES)
def test_a_value_that_does_not_fit_fails_the_step_for_good_and_names_the_field(
    field: str, value: Any, message: str
) -> None:
    with pytest.raises(StepError) as error:
        order(**{field: value})
    assert str(error.value).startswith(f"values.{field}: {message}")
    assert error.value.permanent


@pytest.mark.parametrize(("field", "value", "message"), WRONG_VALUES)
def test_a_value_that_does_not_fit_is_refused_when_the_workflow_is_saved(field: str, value: Any, message: str) -> None:
    found = problems("database.upsert", model="ops.Order", key={"order_id": "a"}, values={"amount": 1, field: value})
    assert list(found) == [f"values.{field}"]
    assert found[f"values.{field}"].startswith(message)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "", "This field cannot be blank."),
        ("state", "lost", 'unknown choice "lost"; known: pending, delivered, failed, skipped, cancelled'),
        ("attempts", 1.5, "should be a whole number, not 1.5"),
        ("attempts", -1, "Ensure this value is greater than or equal to 0."),
        ("channel", "ops", "“ops” value must be an integer."),
        ("origin", "x", "“x” is not a valid UUID."),
    ],
)
def test_what_a_model_says_of_a_field_holds(more_models: None, field: str, value: Any, message: str) -> None:
    values = {"channel": 1, "kind": "email", "message": {"text": "x"}, field: value}
    assert problems("database.insert", model="notifications.Delivery", values=values) == {f"values.{field}": message}


def test_a_foreign_key_to_nothing_is_an_error_of_the_statement(more_models: None) -> None:
    values = {"channel": 4711, "kind": "email", "message": {"text": "x"}}
    with pytest.raises(IntegrityError, match="4711"):
        run_one("database.insert", model="notifications.Delivery", values=values)


def test_text_that_looks_like_an_expression_is_only_text_when_the_step_runs() -> None:
    order(customer="${{ event }}")
    assert Order.objects.get().customer == "${{ event }}"
    with pytest.raises(StepError, match="paid_at"):
        order(paid_at="${{ event }}")


# --- what is refused when a workflow is saved ------------------------------------------------------------------------

INCIDENT: dict[str, Any] = {"model": "ops.Incident", "key": {"service": "x"}, "values": {"status": "failed"}}


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        (
            {"model": "auth.User"},
            "model",
            'unknown model "auth.User"; known: ops.Incident, ops.Order (settings.WORKFLOW_MODELS)',
        ),
        ({"model": "ops.Incidnt"}, "model", 'unknown model "ops.Incidnt", did you mean "ops.Incident"?'),
        ({"key": {"servce": "x"}}, "key.servce", 'unknown field of ops.Incident "servce", did you mean "service"?'),
        (
            {"key": {"url": "https://example.com"}},
            "key",
            "these fields are not unique in ops.Incident; unique are: id · service",
        ),
        ({"key": {}}, "key", "these fields are not unique in ops.Incident; unique are: id · service"),
        ({"key": {"service": None}}, "key.service", "cannot be null"),
        ({"values": {}}, "values.status", "this field is required: it has no default and cannot be empty"),
        ({"values": {"status": "x", "service": "y"}}, "key.service", "stands in `values` or `increment` as well"),
        (
            {"values": {"status": "x"}, "if_newer": "updated_at"},
            "if_newer",
            'unknown field among the values "updated_at"; known: status',
        ),
        ({"increment": {"url": 1}}, "increment.url", "only numbers can be incremented"),
    ],
)
def test_a_wrong_upsert_is_refused(changes: dict[str, Any], path: str, message: str) -> None:
    found = problems("database.upsert", **{**INCIDENT, **changes})
    assert found[path].startswith(message)


def test_what_is_not_known_yet_is_left_to_the_run() -> None:
    dynamic = "${{ event.data.x }}"
    assert problems("database.upsert", **INCIDENT) == {}
    assert problems("database.upsert", model=dynamic, key={"x": 1}) == {}
    assert problems("database.upsert", model="ops.Incident", key=dynamic) == {}
    assert problems("database.upsert", model="ops.Incident", key={"service": dynamic}, values=dynamic) == {}
    assert problems("database.upsert", model="ops.Order", key={"order_id": dynamic}, values={"amount": dynamic}) == {}
    assert list(problems("database.upsert", model="ops.Order", key={"order_id": dynamic})) == ["values.amount"]


def test_the_run_refuses_what_could_not_be_known_before() -> None:
    with pytest.raises(StepError, match=r"model: unknown model .auth.User"):
        run_one("database.upsert", model="auth.User", key={"x": 1})
    with pytest.raises(StepError, match="key: these fields are not unique"):
        run_one("database.upsert", model="ops.Order", key={"customer": "ada"}, values={"amount": 1})


@pytest.mark.parametrize(
    ("action", "given", "path"),
    [
        ("database.insert", {"model": "ops.Order", "values": {"order_id": "a"}}, "values.amount"),
        ("database.update", {"model": "ops.Order", "where": {"order_id": "a"}}, "values"),
        ("database.update", {"model": "ops.Order", "where": {"x": "a"}, "values": {"customer": "x"}}, "where.x"),
        (
            "database.update",
            {"model": "ops.Order", "where": {"order_id": "a"}, "values": {"amount": 1}, "increment": {"amount": 1}},
            "increment.amount",
        ),
        ("database.delete", {"model": "ops.Order", "where": {"amount": "much"}}, "where.amount"),
    ],
)
def test_the_other_actions_are_checked_too(action: str, given: dict[str, Any], path: str) -> None:
    assert list(problems(action, **given)) == [path]
