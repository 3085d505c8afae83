"""What adapters have in common whose events are described by settings, not by a vendor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, ClassVar, Final

from pydantic import Field

from events.cloudevents import Incoming
from events.sources.base import Adapter, Call, Json, moment
from project.api import BadRequest, Fault
from project.expressions import Context, EvaluationError, ExpressionError, Values, compile_values, make_context

MAPPED: Final = ("type", "id", "subject", "time", "data")


class Mapped(Adapter):
    """Events as settings describe them: texts with `${{ CEL }}` over the `variables`."""

    variables: ClassVar[tuple[str, ...]] = ("body", "headers")
    keeps: ClassVar[tuple[str, ...]] = ("x-",)

    type: str = Field(
        title="Event type",
        description="The name of an event type, for example order.paid; or made from the call: "
        "shop.${{ body.event }}, ${{ headers['x-event'] }}.",
    )
    id: str = Field(
        "",
        title="Id",
        description="What a delivery is known by when it comes again: ${{ body.id }}. Empty: a hash of the body.",
    )
    subject: str = Field("", title="Subject", description="What it is about: ${{ body.order.number }}.")
    time: str = Field("", title="Time", description="When it happened: ${{ body.created_at }}. Empty: when it came.")
    data: str = Field("${{ body }}", title="Data", description="The event's data. Empty is the whole body.")

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        for name in MAPPED:
            try:
                compile_values(getattr(self, name), self.variables)
            except ExpressionError as error:
                yield name, f"line {error.line}, column {error.column}: {error.message}"

    def translate(self, call: Call) -> list[Incoming]:
        return [self.rendered(body=call.content, headers=dict(call.headers))]

    def rendered(self, **variables: Json) -> Incoming:
        """The event that the settings make of these variables. Raises BadRequest."""
        found = dict(self._mapped(make_context(**variables)))
        return Incoming(
            type=_text(found["type"]),
            id=_text(found["id"]),
            subject=_text(found["subject"]),
            time=moment(found["time"]),
            data=found["data"],
        )

    def _mapped(self, context: Context) -> Iterator[tuple[str, Json]]:
        for name, values in self._values.items():
            try:
                yield name, values.render(context)
            except EvaluationError as error:
                raise BadRequest(
                    f"The source's setting {name} has no value for this body: {error.reason}.",
                    [Fault(name, error.reason)],
                ) from error

    @cached_property
    def _values(self) -> dict[str, Values]:
        settings: dict[str, Any] = {name: getattr(self, name) for name in MAPPED}
        return {name: compile_values(text, self.variables) for name, text in settings.items()}


def _text(value: Json) -> str:
    return "" if value is None else str(value)
