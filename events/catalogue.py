"""What ingest and routing know of the configuration, compiled once per process and change."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog
from django.db.models import Max
from django.utils import timezone

from events.models import FILTER_VARIABLES, ApiKey, EventSchema, EventType, Source, Subscription
from events.schemas import SchemaError, Validator
from events.sources import adapters
from events.sources.base import Adapter
from project.configuration import cached
from project.expressions import Expression, ExpressionError, compile_expression
from project.plugin import SettingsError
from project.rates import Rate
from project.registry import UnknownName
from project.secrets import UnknownVariable, resolve_environment

log = structlog.get_logger(__name__)

FRESH: Final = 1.0  # seconds that a request may rely on what it knows; what it does not know it asks for at once


@dataclass(frozen=True)
class Key:
    """An API key as requests know it."""

    source: str
    scopes: frozenset[str]
    expires_at: datetime | None
    rate_limit: Rate | None
    is_authenticated: bool = True  # REST framework's word for "somebody"


@dataclass(frozen=True)
class Type:
    """An event type with its schemas by version."""

    name: str
    retired: bool
    schemas: dict[int, Validator] = field(default_factory=dict)

    def schema(self, dataschema: str) -> Validator | None:
        """The version that `dataschema` names (`…/3`, `v3`, `3`), else the latest; None when anything goes.

        Raises LookupError, naming the versions there are, when it names another.
        """
        if not self.schemas:
            return None
        if not dataschema:
            return self.schemas[max(self.schemas)]
        version = dataschema.rstrip("/").rpartition("/")[2].removeprefix("v")
        if version.isascii() and version.isdecimal() and int(version) in self.schemas:
            return self.schemas[int(version)]
        known = ", ".join(map(str, sorted(self.schemas)))
        raise LookupError(f"{self.name} has no schema version {version!r}; it has: {known}.")


@dataclass(frozen=True)
class Rule:
    """A subscription, compiled. `fault` says why its filter cannot be used."""

    name: str
    types: tuple[str, ...]
    sources: tuple[str, ...]
    filter: Expression | None
    fault: str
    workflow: int
    version: int
    workflow_enabled: bool
    enabled: bool

    @classmethod
    def of(cls, row: Subscription, *, sources: Iterable[str], version: int | None) -> Rule:
        """The subscription of this row, stored or not. `version`: the key of its workflow's newest one, if any."""
        compiled, fault = None, ""
        if version is None:
            fault = f"its workflow {row.workflow} has no published version"
        if row.filter:
            try:
                compiled = compile_expression(row.filter, FILTER_VARIABLES)
            except ExpressionError as error:
                fault = f"the filter does not compile: {error}"
        return cls(
            name=row.name,
            types=tuple(row.types),
            sources=tuple(sources),
            filter=compiled,
            fault=fault,
            workflow=row.workflow_id,
            version=version or 0,
            workflow_enabled=row.workflow.enabled,
            enabled=row.enabled,
        )

    def hears_type(self, type_name: str) -> bool:
        return self.pattern(type_name) is not None

    def pattern(self, type_name: str) -> str | None:
        """By which of its types it hears of this one; None: it does not."""
        heard = (t for t in self.types if type_name == t or (t.endswith("*") and type_name.startswith(t[:-1])))
        return next(heard, None)

    def hears_source(self, source: str) -> bool:
        return not self.sources or any(source == s or source.startswith(f"{s}/") for s in self.sources)


@dataclass(frozen=True)
class Hook:
    """A source whose adapter takes what comes in: calls to `/hooks/<name>`, or messages of a broker.

    `problem`: why it can take nothing; then `adapter` is None.
    """

    uri: str
    adapter: Adapter | None
    secrets: tuple[str, ...]
    rate_limit: Rate | None
    problem: str = ""


@dataclass(frozen=True)
class Catalogue:
    keys: dict[str, Key]
    types: dict[str, Type]
    hooks: dict[str, Hook]


class Rules:
    """The subscriptions, ordered by name, with an index by event type that fills as types are seen."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._all = tuple(rules)
        self._by_type: dict[str, tuple[Rule, ...]] = {}

    def for_type(self, type_name: str) -> tuple[Rule, ...]:
        found = self._by_type.get(type_name)
        if found is None:
            found = self._by_type[type_name] = tuple(rule for rule in self._all if rule.hears_type(type_name))
        return found


@cached
def catalogue() -> Catalogue:
    return Catalogue(keys=_keys(), types=_types(), hooks=_hooks())


@cached
def rules() -> Rules:
    return Rules(
        _rule(row)
        for row in Subscription.objects.select_related("workflow")
        .prefetch_related("sources")
        .annotate(version=Max("workflow__versions"))  # later versions have greater keys
        .order_by("name")
    )


@cached
def feeds() -> dict[str, Hook]:
    """The enabled sources whose adapters are brokers, by name."""
    return {row.name: hook(row) for row in Source.of_brokers().filter(enabled=True)}


def key_of(digest: str) -> Key | None:
    """The valid key with this digest. One made a moment ago is found; one revoked may work for a second."""
    key = catalogue(max_age=FRESH).keys.get(digest) or catalogue().keys.get(digest)
    return key if key and (key.expires_at is None or key.expires_at > timezone.now()) else None


def hook_of(name: str) -> Hook | None:
    """The source that is called at this name. One made a moment ago is found; one disabled may work for a second."""
    return catalogue(max_age=FRESH).hooks.get(name) or catalogue().hooks.get(name)


def hook(row: Source) -> Hook:
    """The source as calls and consumers know it. Never raises: a source with a mistake must not stop the others."""
    rate = adapter = None
    secrets: tuple[str, ...] = ()
    problem = ""
    try:
        rate = Rate.parse(row.rate_limit) if row.rate_limit else None
        given = [secret for secret in (row.secret, row.previous_secret) if secret]
        secrets = tuple(secret for secret in resolve_environment(given) if secret)
        adapter = adapters[row.adapter].from_settings(row.settings)
        for secret in secrets:
            adapter.check_secret(secret)
        if adapter.secret and not secrets:
            adapter, problem = None, "it has no secret"
    except (UnknownName, UnknownVariable, SettingsError, ValueError) as error:
        adapter, problem = None, str(error)
    return Hook(row.uri, adapter, secrets, rate, problem)


def _hooks() -> dict[str, Hook]:
    webhooks = [name for name, adapter in adapters.items() if adapter.webhooks]
    return {row.name: hook(row) for row in Source.objects.filter(enabled=True, adapter__in=webhooks)}


def _keys() -> dict[str, Key]:
    rows = ApiKey.objects.filter(revoked_at=None, source__enabled=True).select_related("source")
    return {
        row.digest: Key(
            source=row.source.uri,
            scopes=frozenset(row.scopes),
            expires_at=row.expires_at,
            rate_limit=Rate.parse(row.source.rate_limit) if row.source.rate_limit else None,
        )
        for row in rows
    }


def _types() -> dict[str, Type]:
    schemas: dict[int, dict[int, Validator]] = defaultdict(dict)
    for row in EventSchema.objects.all():
        try:
            schemas[row.event_type_id][row.version] = Validator(row.schema)
        except SchemaError as error:  # saved by another release, perhaps: the type goes on without it, and says so
            log.error("schema unusable", event_type=row.event_type_id, version=row.version, error=str(error))
    return {row.name: Type(row.name, row.retired, schemas[row.pk]) for row in EventType.objects.all()}


def _rule(row: Any) -> Rule:  # a Subscription with its workflow's newest version
    return Rule.of(row, sources=[source.uri for source in row.sources.all()], version=row.version)


class Bucket:
    """A token bucket: `rate.count` at once, refilled over `rate.per_seconds`."""

    def __init__(self, rate: Rate) -> None:
        self._rate, self._tokens, self._at = rate, float(rate.count), time.monotonic()

    def wait(self, n: int) -> float:
        """Take n tokens and return 0.0, or take none and return the seconds until they are there."""
        self._fill()
        # A batch larger than the bucket passes when the bucket is full, and leaves a debt.
        if self._tokens >= min(n, self._rate.count):
            self._tokens -= n
            return 0.0
        return (min(n, self._rate.count) - self._tokens) * self._rate.interval

    def take(self, n: int) -> None:
        """Take n tokens, whether they are there or not."""
        self._fill()
        self._tokens -= n

    @property
    def left(self) -> float:
        """How many tokens are there."""
        self._fill()
        return self._tokens

    def _fill(self) -> None:
        now = time.monotonic()
        self._tokens = min(float(self._rate.count), self._tokens + (now - self._at) / self._rate.interval)
        self._at = now
