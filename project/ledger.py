"""The ledger: sums that hold as long as nothing is lost, audited page by page at any size of the tables.

A sum compares two records of one fact that were written apart: a verdict says "matched", and there is a run; a step
says whom it told, and there is a delivery. An app adds its sums in a module `ledger.py`:

    audited(
        Sum(
            name="shipped",
            says="orders paid = parcels + orders that wait",
            rows=Order,
            statement='''
                SELECT uid AS uid, 1 AS left_side, (parcel IS NOT NULL OR due_at IS NOT NULL)::int AS right_side,
                    CASE WHEN parcel IS NULL AND due_at IS NULL THEN 'neither sent nor waiting' END AS fault
                FROM shop_order WHERE uid > %(after)s AND uid <= %(upto)s
            ''',
        )
    )

Why SQL: one statement sees one moment. Two would see a verdict of one moment and the runs of another, and find under
load what is not there. Both sides are read by ranges of one uid, which sorts by time: no index is there for the ledger.
How many rows a range of new uids holds, the planner can only guess, so a statement must not leave it a choice that is
good for one row and bad for thousands: FULL JOIN (each side is read once) or a subquery by a key, no other joins.

Every row is audited once it has settled, whatever did not balance again and again until it does, and all rows in turn,
for what went wrong later (the sweep). The outcome is kept in rows, which metrics, `doctor` and the admin read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson
import structlog
from django.db import Error as DatabaseError
from django.db import connection, models, transaction
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules

from project.identifiers import first_uid_at, made_at
from project.models import LedgerPage, LedgerSum

log = structlog.get_logger(__name__)

SETTLED: Final = timedelta(minutes=2)  # longer than any transaction: no uid comes to light behind what was audited
RECENT: Final = timedelta(hours=1)  # what the two sides are told of
LATE: Final = timedelta(minutes=10)  # without an audit, after which something is wrong with the ledger itself

PAGE: Final = 5_000  # rows that one statement audits
BUDGET: Final = 2.0  # seconds a sum may take in one go
SLOWEST: Final = 5_000  # milliseconds for one statement
AGAIN: Final = 20  # pages that did not balance, looked at again in one go
SHOWN: Final = 20  # faults told, of a page and of a sum

NOTHING: Final = UUID(int=0)
EVERYTHING: Final = UUID(int=2**128 - 1)


@dataclass(frozen=True)
class Sum:
    """One sum. Its `statement` gives a row `(uid, left_side, right_side, fault)` for each thing that it counts.

    It reads what belongs to the `rows` with a uid in (`%(after)s`, `%(upto)s`], all by ranges of an index. `fault` says
    what is wrong, and is NULL where all is well; `uid` is that of the row of `shown` that a person should open.
    """

    name: str
    says: str
    rows: type[models.Model]
    statement: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shown: type[models.Model] | None = None  # None: the rows themselves

    @property
    def opened(self) -> type[models.Model]:
        return self.shown or self.rows


@dataclass(frozen=True)
class Fault:
    uid: UUID
    what: str


@dataclass(frozen=True)
class Balance:
    """A sum as it was last audited: over the last hour, and whatever older pages do not balance."""

    sum: Sum
    left: int
    right: int
    difference: int  # how many rows are at fault: what is missing on either side
    faults: tuple[Fault, ...] = ()  # some of them
    as_of: datetime | None = None  # what had settled by then has been audited; None: never yet
    seconds: float = 0.0  # how long that took
    error: str = ""  # why the last try failed

    @property
    def age(self) -> float:
        """Seconds that the audit is behind."""
        return (timezone.now() - self.as_of).total_seconds() if self.as_of else 0.0

    @property
    def unaudited(self) -> str:
        """That nobody audits it, or not fast enough, and why; "" when all is well with that."""
        if self.as_of is None:
            return f"never audited: {self.error}" if self.error else ""  # the clock has only just begun
        if self.age < LATE.total_seconds():
            return ""
        return f"not audited for {self.age:.0f} s" + (f": {self.error}" if self.error else "")


_sums: dict[str, Sum] = {}


def audited(added: Sum) -> Sum:
    """Have this sum kept."""
    _sums[added.name] = added
    return added


def sums() -> dict[str, Sum]:
    """Every app's sums by name."""
    autodiscover_modules("ledger")
    return dict(sorted(_sums.items()))


# --- what others read -----------------------------------------------------------------------------------------------


def balances() -> list[Balance]:
    """Every sum as it was last audited. Costs two small queries, whatever the size of the tables."""
    total = {name: models.Sum(f"pages__{name}", default=0) for name in ("left", "right", "difference")}
    kept = {row.name: row for row in LedgerSum.objects.annotate(**{f"all_{name}": n for name, n in total.items()})}
    at_fault = list(LedgerPage.objects.exclude(difference=0).order_by("-upto")[: SHOWN * len(sums())])
    return [_balance(each, kept.get(each.name), at_fault) for each in sums().values()]


def _balance(each: Sum, row: Any, at_fault: Iterable[LedgerPage]) -> Balance:
    if row is None:
        return Balance(each, 0, 0, 0)
    faults = [fault for page in at_fault if page.sum_id == each.name for fault in page.faults]
    return Balance(
        each,
        row.all_left,
        row.all_right,
        row.all_difference,
        tuple(Fault(UUID(fault["uid"]), fault["what"]) for fault in faults[:SHOWN]),
        row.as_of,
        row.seconds,
        row.error,
    )


# --- keeping it -----------------------------------------------------------------------------------------------------


def keep(stop: Callable[[], bool] = lambda: False) -> None:
    """Audit what has settled since the last time, what did not balance then, and a page of what is old.

    A sum that cannot be audited is logged and skipped. Raises DatabaseError when that cannot be written down.
    """
    for each in sums().values():
        started = time.monotonic()
        try:
            as_of = _keep(each, stop)
        except DatabaseError as error:
            log.warning("sum not audited", sum=each.name, error=" ".join(str(error).split()))
            LedgerSum.objects.update_or_create(name=each.name, defaults={"error": str(error).strip()})
            continue
        seconds = time.monotonic() - started
        LedgerSum.objects.filter(name=each.name).update(as_of=as_of, seconds=seconds, error="")


def _keep(each: Sum, stop: Callable[[], bool]) -> datetime:
    """Returns the time from which everything that had settled has been audited."""
    ends_at = time.monotonic() + BUDGET

    def over() -> bool:
        return stop() or time.monotonic() > ends_at

    now = timezone.now()
    horizon = first_uid_at(now - SETTLED)
    row, _ = LedgerSum.objects.get_or_create(name=each.name, defaults={"head": first_uid_at(now - SETTLED - RECENT)})
    for page in row.pages.exclude(difference=0).order_by("audited_at").values_list("pk", flat=True)[:AGAIN]:
        if not over():
            _audit_again(each, page)
    head = row.head
    while head < horizon and not over():
        head = _audit_next(each, horizon)
    if not over():
        _sweep(each)
    row.pages.filter(difference=0, upto__lt=first_uid_at(now - SETTLED - RECENT)).delete()
    return min(now, made_at(head) + SETTLED)


@contextmanager
def _turn(each: Sum) -> Iterator[LedgerSum]:
    """The sum's row, locked: while one clock takes over from another, two may be at it."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(SLOWEST)])
        yield LedgerSum.objects.select_for_update().get(name=each.name)


def _audit_again(each: Sum, pk: int) -> None:
    with _turn(each):
        if page := LedgerPage.objects.filter(pk=pk).first():
            _write(each, page)


def _audit_next(each: Sum, horizon: UUID) -> UUID:
    """Audit the page behind the last one; returns where it ends."""
    with _turn(each) as row:
        if row.head < horizon:
            page = LedgerPage(sum=row, after=row.head, upto=_end_of_page(each, row.head, horizon))
            _write(each, page)
            row.head = page.upto
            row.save(update_fields=["head"])
        return row.head


def _sweep(each: Sum) -> None:
    """Audit the next of all the pages there have ever been, from the first to the last and over again."""
    with _turn(each) as row:
        page = row.pages.filter(upto__gt=row.swept).order_by("after").first()
        if page is None or page.after > row.swept:
            limit = page.after if page else row.head
            page = LedgerPage(sum=row, after=row.swept, upto=_end_of_page(each, row.swept, limit))
            _audit(each, page)
            if page.difference:  # the others are too many to be kept
                page.save()
        else:
            _write(each, page)
        row.swept = page.upto if page.upto < row.head else NOTHING
        row.save(update_fields=["swept"])


def _write(each: Sum, page: LedgerPage) -> None:
    _audit(each, page)
    if page.pk or page.left or page.right or page.difference:
        page.save()


def _end_of_page(each: Sum, after: UUID, limit: UUID) -> UUID:
    """Where the page that begins behind `after` is full; at the latest at `limit`."""
    later = each.rows._base_manager.filter(pk__gt=after, pk__lte=limit).order_by("pk")
    last: UUID | None = later.values_list("pk", flat=True)[PAGE - 1 : PAGE].first()
    return last or limit


def _audit(each: Sum, page: LedgerPage) -> None:
    """Fill in what the page says."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH audited AS MATERIALIZED ({each.statement})
            SELECT coalesce(sum(left_side), 0), coalesce(sum(right_side), 0), count(fault),
                (SELECT coalesce(jsonb_agg(jsonb_build_object('uid', uid, 'what', fault)), '[]')::text
                    FROM (SELECT uid, fault FROM audited WHERE fault IS NOT NULL ORDER BY uid LIMIT {SHOWN}) AS sample)
            FROM audited
            """,
            {**each.parameters, "after": page.after, "upto": page.upto},
        )
        page.left, page.right, page.difference, faults = cursor.fetchone() or (0, 0, 0, "[]")
    page.faults, page.audited_at = orjson.loads(faults), timezone.now()


def audit_everything(each: Sum) -> Balance:
    """The sum over all rows there are, settled or not. Reads the whole table, a page at a time; writes nothing."""
    left = right = difference = 0
    faults: list[Fault] = []
    started, now, after = time.monotonic(), timezone.now(), NOTHING
    while after < EVERYTHING:
        page = LedgerPage(after=after, upto=_end_of_page(each, after, EVERYTHING))
        _audit(each, page)
        left, right, difference = left + page.left, right + page.right, difference + page.difference
        faults += [Fault(UUID(fault["uid"]), fault["what"]) for fault in page.faults]
        after = page.upto
    return Balance(each, left, right, difference, tuple(faults[:SHOWN]), now, time.monotonic() - started)
