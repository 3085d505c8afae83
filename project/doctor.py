"""What is wrong with this installation, and what to do about it.

An app adds what it knows in a module `doctor.py`:

    @examination
    def disks() -> Iterator[Finding]:
        yield Finding("disk", wrong="97 % full", remedy="Delete old backups.")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from celery import current_app
from django.conf import settings
from django.core.checks import WARNING, CheckMessage, run_checks
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils.module_loading import autodiscover_modules

from project.due import COUNTED
from project.health import OK, readiness
from project.kinds import in_order
from project.ledger import Balance, balances
from project.stage import stages

TOLD: Final = 3  # rows at fault that a finding names


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. Nothing is `wrong`: it is well, and `note` may say more."""

    name: str
    wrong: str = ""
    remedy: str = ""
    note: str = ""


Examination: TypeAlias = Callable[[], Iterator[Finding]]

_examinations: list[Examination] = []


def examination(examine: Examination) -> Examination:
    """Have `examine` called, too, when the database can be used."""
    if examine not in _examinations:
        _examinations.append(examine)
    return examine


def examine() -> Iterator[Finding]:
    """Look at everything. What needs the database is left out when that is away."""
    autodiscover_modules("doctor")
    yield from _settings()
    state = readiness()
    for name, said in state.items():
        yield Finding(name) if said == OK else Finding(name, wrong=said, remedy=REMEDIES[name])
    if state["database"] != OK:
        return
    migrations = list(_migrations())
    yield from migrations
    if any(finding.wrong for finding in migrations):
        return  # the tables may not be what the code expects
    for each in _examinations:
        yield from each()


REMEDIES: Final = {
    "database": "Start PostgreSQL, or set DATABASE_URL to where it is.",
    "broker": "Start it, or set CELERY_BROKER_URL. Until then events are kept, and worked on slower.",
    "workers": "Start them: `celery -A project worker` with these queues (docker-compose.yml has the command lines).",
    "clock": "Start `manage.py clock`: retries and timers wait for it.",
}


def _settings() -> Iterator[Finding]:
    # On a developer's machine (DEBUG) the deployment's warnings are all true, and none matters.
    found = [message for message in run_checks(include_deployment_checks=not settings.DEBUG) if _matters(message)]
    for message in found:
        yield Finding("settings", wrong=f"{message.msg} ({message.id})", remedy=message.hint or "")
    if not found:
        yield Finding("settings", note="DEBUG is on: not checked for deployment" if settings.DEBUG else "")


def _matters(message: CheckMessage) -> bool:
    return message.level >= WARNING and not message.is_silenced()


def _migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(f"{migration.app_label} {migration.name}" for migration, _ in missing)
        yield Finding("migrations", wrong=f"not applied: {names}", remedy="Run `manage.py migrate`.")
    else:
        yield Finding("migrations")


@examination
def due_rows() -> Iterator[Finding]:
    """Whether somebody takes what is due."""
    current_app.loader.import_default_modules()  # the stages are registered by the apps' tasks
    for stage in stages.values():
        age, overdue = stage.rows().backlog_age(), stage.rows().overdue()
        if overdue:
            many = f"{overdue} or more" if overdue == COUNTED else str(overdue)
            yield Finding(
                stage.name,
                wrong=f"nobody took {many} due rows for more than a minute, the oldest for {age:.0f} s",
                remedy="See the log of the process that serves the stage, or start more of them.",
            )
        else:
            yield Finding(stage.name, note="nothing waits" if not age else f"the oldest due row waits {age:.1f} s")


@examination
def ledger() -> Iterator[Finding]:
    """Whether the sums hold that the clock audits (project/ledger.py)."""
    for balance in balances():
        yield _audited(balance)


def _audited(balance: Balance) -> Finding:
    name = f"ledger: {balance.sum.name}"
    if balance.difference:
        some = "; ".join(f"{fault.uid}: {fault.what}" for fault in balance.faults[:TOLD])
        return Finding(
            name,
            wrong=f"{balance.difference} rows do not balance ({balance.sum.says}): {some}",
            remedy="docs/how-to/when-the-ledger-does-not-balance.md tells what it means and what to do.",
        )
    if balance.unaudited:
        return Finding(
            name,
            wrong=balance.unaudited,
            remedy="Is `manage.py clock` running? Its log tells why it does not audit, or what takes so long.",
        )
    if balance.as_of is None:
        return Finding(name, note="not audited yet; the clock does it every minute")
    return Finding(name, note=f"{balance.left} = {balance.right} in the last hour")


@examination
def configuration() -> Iterator[Finding]:
    """Whether what is configured would be accepted today: what it refers to may have gone, or the rules changed."""
    well = 0
    for kind in in_order():
        for row in kind.rows():
            try:
                kind.check(row)
                well += 1
            except ValidationError as error:
                remedy = "Correct it in the admin, or in its file and `manage.py apply` that."
                yield Finding(f"{kind.name} {row.name}", wrong=_told(error), remedy=remedy)
    yield Finding("configuration", note=f"{well} rows are well")


def _told(error: ValidationError) -> str:
    fields: dict[str, Any] = error.update_error_dict({})
    return "; ".join(
        message if name == "__all__" else f"{name}: {message}"
        for name, errors in fields.items()
        for each in errors
        for message in ValidationError(each).messages
    )
