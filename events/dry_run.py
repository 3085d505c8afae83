"""What a subscription, saved or not, would do with stored events: asked as the router asks, and nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeAlias
from uuid import UUID

from events import stored
from events.catalogue import Rule
from events.models import Event, Source, Subscription
from events.review import survey
from events.verdicts import Judge
from workflows.models import Workflow, WorkflowVersion

Json: TypeAlias = Any

DEAF: Final = "deaf"  # what a subscription says of events whose type it does not hear of
BEFORE: Final = "matched before"
NEWLY: Final = "newly"
NO_LONGER: Final = "no longer"
DAYS: Final = 7  # of the impact that is told on saving


@dataclass(frozen=True)
class Draft:
    """What decides about events in a subscription, as somebody has it in a form or as it is stored."""

    types: tuple[str, ...]
    sources: tuple[str, ...]  # their addresses, as /shop
    filter: str
    workflow: int | None  # its key; None: not chosen yet
    enabled: bool

    @classmethod
    def of(cls, row: Subscription, sources: Iterable[Source]) -> Draft:
        """The subscription of this row, whose sources are known apart because it may not be stored yet."""
        uris = tuple(source.uri for source in sources)
        return cls(tuple(row.types), uris, row.filter, row.workflow_id, row.enabled)

    @classmethod
    def stored(cls, row: Subscription) -> Draft:
        return cls.of(row, row.sources.all())

    @classmethod
    def from_json(cls, kept: Mapping[str, Json]) -> Draft:
        return cls(**{**kept, "types": tuple(kept["types"]), "sources": tuple(kept["sources"])})

    def to_json(self) -> dict[str, Json]:
        return asdict(self)

    def rule(self) -> Rule:
        """The rule that the router would have of it."""
        workflow = Workflow.objects.filter(pk=self.workflow).first() if self.workflow else None
        newest = WorkflowVersion.objects.filter(workflow=workflow).values_list("pk", flat=True) if workflow else None
        row = Subscription(
            types=list(self.types),
            filter=self.filter,
            workflow=workflow or Workflow(enabled=True),
            enabled=self.enabled,
        )
        # Without a workflow nothing is amiss yet: its fault would hide what the filter says.
        return Rule.of(row, sources=self.sources, version=newest.order_by("-pk").first() if newest is not None else 0)


@dataclass(frozen=True)
class DryRun:
    """A draft, beside the saved subscription that it changes, if there is one."""

    draft: Rule
    saved: Rule | None = None

    @classmethod
    def of(cls, draft: Draft, saved: Draft | None) -> DryRun:
        """As things are: what is disabled, or whose workflow is, starts nothing."""
        return cls(draft.rule(), saved.rule() if saved and saved != draft else None)

    @classmethod
    def as_if_enabled(cls, draft: Draft, saved: Draft | None) -> DryRun:
        """What a disabled draft would do if it were not; the saved one, too, so that they differ only in the rest."""
        it = cls.of(draft, saved)
        if it.draft.enabled and it.draft.workflow_enabled:
            return it
        return cls(_on(it.draft), it.saved and _on(it.saved))

    @cached_property
    def types(self) -> list[str]:
        """The types of stored events that either hears of."""
        named = {type_ for rule in self._rules for type_ in rule.types}
        if any("*" in type_ for type_ in named):
            return [type_ for type_ in stored.types() if any(rule.hears_type(type_) for rule in self._rules)]
        return sorted(named)

    @property
    def _rules(self) -> Sequence[Rule]:
        return (self.draft, self.saved) if self.saved else (self.draft,)

    def labels(self, event: Event) -> Iterator[str]:
        """What the event counts as: the draft's verdict, and whether it would newly match, or match no longer."""
        judge = Judge(event)
        verdict = _verdict(judge, self.draft, event)[0]
        yield verdict
        if self.saved is None:
            return
        before = _verdict(judge, self.saved, event)[0]
        if before == "matched":
            yield BEFORE
        if (verdict == "matched") != (before == "matched"):
            yield NEWLY if verdict == "matched" else NO_LONGER

    def tell(self, event: Event) -> dict[str, Json]:
        """The event with the verdicts of both, and why."""
        judge = Judge(event)
        verdict, reason = _verdict(judge, self.draft, event)
        told = {"event": event, "verdict": verdict, "reason": reason}
        if self.saved is not None:
            told["before"], told["reason_before"] = _verdict(judge, self.saved, event)
        return told

    def tell_all(self, uids: Sequence[UUID]) -> list[dict[str, Json]]:
        """The same of these events, as far as they are still there, newest first."""
        events = Event.objects.filter(pk__in=uids).defer("verdicts", "error").order_by("-uid")
        return [self.tell(event) for event in events]


def _on(rule: Rule) -> Rule:
    return replace(rule, enabled=True, workflow_enabled=True)


def _verdict(judge: Judge, rule: Rule, event: Event) -> tuple[str, str]:
    if not rule.hears_type(event.type):
        return DEAF, f"{event.type} is not among its types: {', '.join(rule.types)}"
    return judge.ask(rule)


@dataclass(frozen=True)
class Impact:
    """How many runs a draft would have started in the last days, and how many the saved subscription."""

    days: int
    runs: int
    before: int
    differing: int  # events that the one matches and the other does not
    seen: int
    complete: bool
    new: bool

    def __str__(self) -> str:
        if self.complete:
            runs, before, source = f"{self.runs:,}", f"{self.before:,}", ""
        else:
            runs, before = (f"about {rounded(n):,}" for n in (self.runs, self.before))
            source = f" This is an estimate from a sample of {self.seen:,} events."
        told = f"It would have started {runs} run{'' if runs == '1' else 's'} in the last {self.days} days"
        if not self.new:
            told += f" instead of {before}" if runs != before else ", as before"
            if runs == before and self.differing:
                told += ", but partly for other events"
        return f"{told}.{source}"


def impact(draft: Draft, saved: Draft | None) -> Impact:
    """What saving the draft would change, in about a second; from a sample when there are many events. Raises Busy."""
    it = DryRun(draft.rule(), saved.rule() if saved else None)
    found = survey(it.types, it.labels, DAYS)
    runs, before = found.counts["matched"], found.counts[BEFORE]
    differing = found.counts[NEWLY] + found.counts[NO_LONGER] if saved else runs
    return Impact(found.days, runs, before, differing, found.seen, found.complete, new=saved is None)


def rounded(n: int) -> int:
    """To two digits, because an estimate is not better.

    >>> rounded(1264), rounded(97), rounded(0)
    (1300, 97, 0)
    """
    unit = int("1" + "0" * max(len(str(n)) - 2, 0))
    return round(n / unit) * unit
