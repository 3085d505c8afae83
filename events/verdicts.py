"""What a subscription says to an event, and why: the same for the router and for whoever tries a subscription out."""

from __future__ import annotations

from events.catalogue import Rule
from events.models import Event
from project.expressions import Context, EvaluationError, make_context


class Judge:
    """Asks subscriptions that hear of its type about an event.

    It is converted for CEL when the first filter asks for it: most events meet subscriptions without one.
    """

    __slots__ = ("_event", "context", "envelope")

    def __init__(self, event: Event) -> None:
        self._event = event
        self.envelope = event.envelope()
        self.context: Context | None = None

    def ask(self, rule: Rule) -> tuple[str, str]:
        """The verdict (matched, filtered, error, disabled) and its reason, which is empty when it matched."""
        if not rule.enabled:
            return "disabled", "the subscription is disabled"
        if not rule.workflow_enabled:
            return "disabled", "its workflow is disabled"
        if not rule.hears_source(self._event.source):
            return "filtered", f"{self._event.source} is not among its sources: {', '.join(rule.sources)}"
        if rule.fault:
            return "error", rule.fault
        if rule.filter is None:
            return "matched", ""
        try:
            if self.context is None:
                self.context = make_context(event=self.envelope)
            verdict = rule.filter.explain(self.context)
        except EvaluationError as error:  # the event itself cannot be a context
            return "error", error.reason
        return verdict.outcome, verdict.reason
