"""WORKFLOW_DATABASES: what it may say, and what nobody is told of it."""

import os
import pprint
import subprocess
import sys

import pytest
from pytest_django import Settings

from project import databases
from project.checks import workflow_databases
from project.environment import Shared


def test_each_kind_of_database_has_its_driver() -> None:
    found = databases.parse(
        "a=postgres://u:p@h/x, b=postgresql+psycopg://h:5433/x\n c=mysql://h/x,d=mariadb+pymysql://h/x,e=sqlite:////srv/e.db,"
    )
    assert {name: (database.dialect, database.url) for name, database in found.items()} == {
        "a": ("postgresql", "postgresql+psycopg://u:p@h/x"),
        "b": ("postgresql", "postgresql+psycopg://h:5433/x"),
        "c": ("mysql", "mysql+pymysql://h/x"),
        "d": ("mysql", "mysql+pymysql://h/x"),
        "e": ("sqlite", "/srv/e.db"),
    }
    assert databases.parse("") == databases.parse(" \n") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("postgresql://u:s3cr3t@h/x", "entry 1 is not name=url"),
        ("a=postgresql://u:s3,cr3t@h/x", "a: the URL's host or port is not one"),
        ("A=postgresql://u:s3cr3t@h/x", "entry 1 is not name=url"),
        ("a=mysql://u:s3cr3t@h/x,a=mysql://u:s3cr3t@h/y", 'the name "a" stands twice'),
        ("a=oracle://u:s3cr3t@h/x", 'a: unknown kind of database "oracle"; known: postgresql, mysql, sqlite, mariadb'),
        ("a=mysql+mysqldb://u:s3cr3t@h/x", 'a: the driver "mysqldb" is not used; leave it out'),
        ("a=postgresql://u:s3cr3t@h", "a: the URL does not say which database"),
        ("a=postgresql://u:s3cr3t/4@h/x", "a: the URL's host or port is not one"),
        ("a=sqlite://", "a: write the whole path of the file"),
        ("a=sqlite:///here.db", "a: write the whole path of the file"),
    ],
)
def test_what_is_wrong_is_told_without_the_url(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="a") as caught:
        databases.parse(text)
    assert message in str(caught.value)
    assert "s3" not in str(caught.value)


def test_a_wrong_value_stops_a_process_at_its_start() -> None:
    environment = {**os.environ, "WORKFLOW_DATABASES": "a=oracle://u:s3cr3t@h/x"}
    done = subprocess.run([sys.executable, "manage.py", "check"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'WORKFLOW_DATABASES: a: unknown kind of database "oracle"' in done.stderr
    assert "s3cr3t" not in done.stderr


def test_a_password_is_not_printed_nor_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    there = databases.parse("a=mysql://u:s3cr3t@h/x")
    assert "s3cr3t" not in f"{there} {there!r} {pprint.pformat(there)}", "a page of errors shows settings so"
    monkeypatch.setenv("WORKFLOW_DATABASES", "a=mysql://u:s3cr3t@h/x")
    assert "WORKFLOW_DATABASES" not in Shared(), "a channel's settings could send it away"


@pytest.mark.parametrize(
    ("own", "url", "same"),
    [
        ({"HOST": "db", "PORT": "", "NAME": "carillon"}, "postgres://u@DB:5432/carillon", True),
        ({"HOST": "localhost", "PORT": 5432, "NAME": "carillon"}, "postgres://127.0.0.1/carillon", True),
        ({"HOST": "", "PORT": "", "NAME": "carillon"}, "postgres://u@/carillon?host=/run/pg", True),
        ({"HOST": "db", "PORT": "", "NAME": "carillon"}, "postgres://db/warehouse", False),
        ({"HOST": "db", "PORT": "", "NAME": "carillon"}, "postgres://db:5433/carillon", False),
        ({"HOST": "db", "PORT": "", "NAME": "carillon"}, "mysql://db/carillon", False),
    ],
)
def test_carillons_own_database_is_found_at_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, own: dict[str, object], url: str, same: bool
) -> None:
    monkeypatch.setitem(settings.DATABASES, "default", {**own, "OPTIONS": {"host": "/run/pg"}})
    settings.WORKFLOW_DATABASES = databases.parse(f"warehouse={url}")
    found = workflow_databases()
    assert [message.id for message in found] == (["carillon.E004"] if same else [])
