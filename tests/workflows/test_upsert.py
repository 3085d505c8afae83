"""Upserts of any model: every type of field arrives as the ORM would have stored it."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.contrib.postgres.fields import ArrayField
from django.db import connection, models, transaction
from django.test.utils import isolate_apps

from examples.ops.models import Incident
from workflows.rows import Model, unique_keys
from workflows.upsert import Shape, upsert

pytestmark = pytest.mark.django_db


def everything() -> Model:
    class Everything(models.Model):
        name = models.CharField(max_length=20, unique=True)
        whole = models.BigIntegerField()
        exact = models.DecimalField(max_digits=20, decimal_places=4)
        rough = models.FloatField()
        yes = models.BooleanField()
        day = models.DateField()
        hour = models.TimeField()
        moment = models.DateTimeField()
        long = models.DurationField()
        uid = models.UUIDField()
        address = models.GenericIPAddressField()
        raw = models.BinaryField()
        document = models.JSONField(null=True)
        words = ArrayField(models.CharField(max_length=20))
        table = ArrayField(ArrayField(models.IntegerField()))
        renamed = models.TextField(db_column="Odd column")
        other = models.ForeignKey("self", null=True, on_delete=models.CASCADE)
        added = models.DateTimeField(auto_now_add=True)
        changed = models.DateTimeField(auto_now=True)

        class Meta:
            app_label = "ops"
            constraints = (models.UniqueConstraint(fields=["name", "day"], name="once_a_day"),)

    return Everything


VALUES: dict[str, Any] = {
    "name": "naïve '%s' \\ \"x\"",
    "whole": 2**62,
    "exact": Decimal("1234567890123456.7891"),
    "rough": 0.1,
    "yes": True,
    "day": date(2026, 2, 28),
    "hour": time(23, 59, 59, 999999),
    "moment": datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC),
    "long": timedelta(days=-3, seconds=7, microseconds=5),
    "uid": UUID(int=7),
    "address": "2001:db8::1",
    "raw": b"\x00\xff\\",
    "document": {"a": [1.5, None, "ü", {"b": True}], "c": 2**53},
    "words": ["a", 'b,"c"', "NULL", ""],
    "table": [[1, 2], [3, 4]],
    "renamed": "",
    "other": None,
}


@isolate_apps("examples.ops")
def test_every_type_of_field_arrives_as_the_orm_would_have_stored_it() -> None:
    model = everything()
    with connection.schema_editor() as editor:
        editor.create_model(model)
    shape = Shape(model, ("name",), tuple(name for name in VALUES if name != "name"), (), None)
    ours = {**VALUES, "name": "ours"}
    theirs = model._base_manager.create(**{**VALUES, "name": "theirs"})
    assert upsert(shape, [ours, VALUES]) == [True, True]
    assert upsert(shape, [VALUES, ours]) == [False, False]
    rows = model._base_manager.in_bulk(field_name="name")
    for name, value in VALUES.items():
        assert getattr(rows[VALUES["name"]], name) == value, name
        if name != "name":
            assert getattr(rows["ours"], name) == getattr(model._base_manager.get(pk=theirs.pk), name), name
    added, changed = model._base_manager.values_list("added", "changed").get(name="ours")
    assert changed > added


@isolate_apps("examples.ops")
def test_the_unique_keys_are_those_that_a_conflict_can_be_found_by() -> None:
    assert unique_keys(everything()) == [frozenset({"id"}), frozenset({"name"}), frozenset({"name", "day"})]


@pytest.mark.django_db(transaction=True)
def test_batches_that_share_rows_in_another_order_wait_for_each_other_and_do_not_lock_up() -> None:
    shape = Shape(Incident, ("service",), ("status",), (), None)
    errors: list[BaseException] = []

    def work(services: list[str]) -> None:
        try:
            for turn in range(20):
                with transaction.atomic():
                    upsert(shape, [{"service": service, "status": str(turn)} for service in services])
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    services = [f"{number:03}" for number in range(60)]
    threads = [
        threading.Thread(target=work, args=[order])
        for order in (services, services[::-1], services[30:] + services[:30])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Incident.objects.filter(status="19").count() == 60
