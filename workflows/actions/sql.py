"""`sql.*`: any other database that settings.WORKFLOW_DATABASES names.

The effect and the step's key are committed there in one transaction, so that an effect happens once however often
`perform` is called. SQLAlchemy is imported when a step of a workflow needs it, and not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

from django.conf import settings
from pydantic import Field

from project.databases import Database
from project.expressions import is_dynamic
from project.names import unknown
from workflows.actions import Call, OutsideAction, StepError, action
from workflows.actions.base import Json, Named, Rehearsal
from workflows.foreign import ForeignError
from workflows.foreign.statement import Statement, read

Given = Mapping[str, Json]


class _InDatabase(OutsideAction):
    database: Annotated[str, Named("databases")]

    @classmethod
    def check(cls, given: Given) -> Iterable[tuple[str, str]]:
        if is_dynamic(given["database"]):
            return
        try:
            database = _named(given["database"])
        except LookupError as error:
            yield "database", str(error)
        else:
            yield from cls.refuse(database, given)

    @classmethod
    def refuse(cls, database: Database, given: Given) -> Iterable[tuple[str, str]]:
        """What is wrong with the rest, as far as it is known, as (path, message) pairs."""
        raise NotImplementedError

    def named_database(self) -> Database:
        try:
            return _named(self.database)
        except LookupError as error:
            raise StepError(f"database: {error}", permanent=True) from error


@action("sql.execute")
class Execute(_InDatabase):
    """Runs one statement. Output: {"rows": how many were changed or found, "returned": the first 100 of them}.

    `returned` is empty unless the statement returns rows (SELECT, RETURNING).
    """

    statement: str
    parameters: dict[str, Json] = {}

    @classmethod
    def check(cls, given: Given) -> Iterable[tuple[str, str]]:
        if is_dynamic(given["statement"]):
            yield (
                "statement",
                "cannot hold ${{ }}: a value would become part of the SQL. Write :name in its place, "
                "and name: ${{ … }} under `parameters`",
            )
        else:
            yield from super().check(given)

    @classmethod
    def refuse(cls, database: Database, given: Given) -> Iterable[tuple[str, str]]:
        try:
            statement = read(given["statement"], database.dialect)
        except ValueError as error:
            yield "statement", str(error)
            return
        parameters = given.get("parameters", {})
        if not isinstance(parameters, str):  # all of it is one expression
            yield from _misnamed(statement, parameters)

    def perform(self, call: Call) -> Json:
        database = self.named_database()
        with _told_as_step_errors():
            from workflows.foreign import effects  # needs SQLAlchemy, which may not be installed

            return effects.execute(database, call.key, self._statement(database), self.parameters)

    def rehearse(self, call: Call) -> Rehearsal:
        with _told_as_step_errors():
            self._statement(self.named_database())
        return Rehearsal(f"run the statement in {self.database}", {"rows": 1, "returned": []}, "example")

    def _statement(self, database: Database) -> Statement:
        """What it runs. Raises ValueError."""
        statement = read(self.statement, database.dialect)
        if problems := list(_misnamed(statement, self.parameters)):
            raise ValueError("; ".join(f"{path}: {message}" for path, message in problems))
        return statement


@action("sql.upsert")
class Upsert(_InDatabase):
    """Changes the row of a table that has this `key`, or adds it. Output: {"created": …, "key": …}."""

    table: str
    key: dict[str, Json] = Field(min_length=1)
    values: dict[str, Json] = {}
    increment: dict[str, Json] = {}

    @classmethod
    def refuse(cls, database: Database, given: Given) -> Iterable[tuple[str, str]]:
        if is_dynamic(given["table"]):
            return
        try:
            with _told_as_step_errors():
                from workflows.foreign import effects  # needs SQLAlchemy, which may not be installed

                yield from effects.refusals(database, given["table"], given, is_dynamic)
        except StepError as error:
            if error.permanent:
                yield "database", str(error)
            # else it cannot be reached now, maybe only from here: the step will tell what is wrong with it

    def perform(self, call: Call) -> Json:
        database = self.named_database()
        with _told_as_step_errors():
            from workflows.foreign import effects  # needs SQLAlchemy, which may not be installed

            return effects.upsert(database, call.key, self.table, dict(self))

    def rehearse(self, call: Call) -> Rehearsal:
        self.named_database()
        would = f"change or add the row of {self.table} in {self.database}"
        return Rehearsal(would, {"created": True, "key": self.key}, "example")


def _named(name: str) -> Database:
    databases: Mapping[str, Database] = settings.WORKFLOW_DATABASES
    if name not in databases:
        raise LookupError(f"{unknown('database', name, list(databases))} (settings.WORKFLOW_DATABASES)")
    return databases[name]


def _misnamed(statement: Statement, parameters: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    for name in parameters:
        if name not in statement.names:
            yield f"parameters.{name}", unknown("parameter of the statement", name, statement.names)
    for name in statement.names:
        if name not in parameters:
            yield f"parameters.{name}", f"the statement has :{name}, which needs a value here"


@contextmanager
def _told_as_step_errors() -> Iterator[None]:
    try:
        yield
    except ForeignError as error:
        raise StepError(str(error), permanent=error.permanent) from error
    except ValueError as error:
        raise StepError(str(error), permanent=True) from error
    except ModuleNotFoundError as error:
        raise StepError(
            f"other databases need the package {error.name}, which is missing: pip install -r requirements-sql.txt",
            permanent=True,
        ) from error
