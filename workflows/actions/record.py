"""`record.*`: Carillon's own documents, read at `/api/v1/records`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field

from workflows.actions import Action, Call, action
from workflows.actions.base import Json, Rehearsal
from workflows.models import Record
from workflows.queries import Address


class _Record(Action):
    collection: Annotated[str, Field(min_length=1, max_length=100)]
    key: Annotated[str, Field(min_length=1, max_length=200, coerce_numbers_to_str=True)]

    @property
    def address(self) -> Address:
        return (self.collection, self.key)

    def output(self, version: int | None) -> Json:
        return {"collection": self.collection, "key": self.key, "version": version}

    def stored(self) -> Record | None:
        """The record as it is now."""
        return Record.objects.filter(collection=self.collection, key=self.key).first()

    def rehearse(self, call: Call) -> Rehearsal:
        record = self.stored()
        would = f"{'change' if record else 'make'} the record {self.collection}/{self.key}"
        return Rehearsal(would, self.output(record.version + 1 if record else 1))


@action("record.put")
class Put(_Record):
    """Keeps `value` under the key, in place of what was there."""

    value: Json

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        counts = Counter(one.address for one, _ in calls)
        changes = {one.address: (one.value, counts[one.address]) for one, _ in calls}  # of several the last one stays
        stored = Record.objects.upsert(changes, replace=True)
        return _outputs(calls, {address: record.version for address, record in stored.items()})


@action("record.patch")
class Patch(_Record):
    """Merges `value` into what is there (RFC 7396: null removes a member); a record that is not there is empty."""

    value: Json

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        counts = Counter(one.address for one, _ in calls)
        new = _merged(calls, lambda address: None)
        # The upsert also locks the records that are there, or that another transaction is making, and tells them.
        stored = Record.objects.upsert({address: (new[address], counts[address]) for address in counts}, replace=False)
        kept = {address: record.value for address, record in stored.items() if not record.created}
        if kept:
            Record.objects.set_values(_merged([call for call in calls if call[0].address in kept], kept.__getitem__))
        return _outputs(calls, {address: record.version for address, record in stored.items()})


@action("record.delete")
class Delete(_Record):
    """Removes the record. `version` in its output is the one removed, null when there was none."""

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        gone = Record.objects.remove({one.address for one, _ in calls})
        # of several calls for one record the first removes it
        return [one.output(gone.pop(one.address, None)) for one, _ in calls]

    def rehearse(self, call: Call) -> Rehearsal:
        record = self.stored()
        would = f"remove the record {self.collection}/{self.key}{'' if record else ', which is not there'}"
        return Rehearsal(would, self.output(record.version if record else None))


def merge_patch(target: Json, patch: Json) -> Json:
    """The target with the patch applied: JSON Merge Patch, RFC 7396, section 2.

    >>> merge_patch({"a": "b", "c": {"d": 1}}, {"a": None, "c": {"e": 2}})
    {'c': {'d': 1, 'e': 2}}
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _merged(calls: Iterable[tuple[Patch, Call]], start: Callable[[Address], Json]) -> dict[Address, Json]:
    """What the patches, one after the other, make of the values that `start` tells."""
    values: dict[Address, Json] = {}
    for one, _ in calls:
        before = values[one.address] if one.address in values else start(one.address)
        values[one.address] = merge_patch(before, one.value)
    return values


def _outputs(calls: Sequence[tuple[_Record, Call]], last: Mapping[Address, int]) -> list[Json]:
    """Each call has its own version: the last one for a record has the version that is stored now."""
    left = Counter(one.address for one, _ in calls)
    outputs = []
    for one, _ in calls:
        left[one.address] -= 1
        outputs.append(one.output(last[one.address] - left[one.address]))
    return outputs
