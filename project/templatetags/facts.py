"""How facts are shown: states as badges, times, durations, and JSON with colours."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Final

from django import template
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import HtmlLexer, JsonLexer, YamlLexer

from project.durations import in_short

register = template.Library()

COLOURS: Final = {
    **dict.fromkeys(
        ("succeeded", "approved", "delivered", "matched", "routed", "enabled", "valid", "healthy"), "success"
    ),
    **dict.fromkeys(("failed", "rejected", "error"), "danger"),
    **dict.fromkeys(
        ("waiting", "queued", "timed_out", "retry", "on hold", "failing", "waiting to be routed"), "warning"
    ),
    **dict.fromkeys(("running", "pending", "paused", "would be done"), "info"),
}
"""Every state, verdict and outcome by its unfold label; the others (skipped, cancelled, filtered …) are grey."""

_LEXERS: Final = {"json": JsonLexer(), "yaml": YamlLexer(), "html": HtmlLexer()}
_WHOLE: Final = {"yaml": YamlLexer(stripnl=False, ensurenl=False)}  # keeps empty lines at both ends
# The colours of the classes stand in carillon.css, once for the light and once for the dark theme.
_FORMATTER: Final = HtmlFormatter(cssclass="code", wrapcode=True)
_BARE: Final = HtmlFormatter(nowrap=True)  # closes its elements at the end of each line


@register.filter
def badge(state: str, colour: str = "") -> SafeString:
    """The state as a coloured label; in another colour than its own, if one is named."""
    shown = {"text": state, "type": colour or COLOURS.get(state)}
    return mark_safe(render_to_string("unfold/helpers/label.html", shown).strip())


@register.filter
def ticked(text: str) -> SafeString:
    """Words with what stands in backticks as code."""
    return mark_safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", conditional_escape(text)))


@register.filter
def counted(number: int) -> str:
    """A number that can be read: `12,345`."""
    return f"{number:,}"


@register.filter
def as_json(value: Any) -> str:
    """JSON, for an attribute."""
    return json.dumps(value, ensure_ascii=False)


@register.filter
def code(value: Any, language: str = "json") -> SafeString:
    """JSON, indented and coloured; or text of another language."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str) if language == "json" else str(value)
    coloured: str = highlight(text, _LEXERS[language], _FORMATTER)
    return mark_safe(coloured)


def coloured_lines(text: str, language: str) -> list[SafeString]:
    """Each line of the text, coloured, as `str.splitlines` numbers them."""
    # Pygments knows one end of a line.
    coloured: str = highlight("\n".join(text.splitlines()), _WHOLE[language], _BARE)
    lines = coloured.split("\n")
    return [mark_safe(line) for line in lines[: len(text.splitlines())]]


@register.filter
def moment(value: datetime | str | None) -> SafeString | str:
    """A time to the second, and how long ago; RFC 3339 texts too."""
    if not value:
        return "–"
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    local = timezone.localtime(at)
    ago = f"{timesince(at)} ago" if at <= timezone.now() else f"in {timesince(timezone.now(), at)}"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', at.isoformat(), ago, local.strftime("%Y-%m-%d %H:%M:%S")
    )


@register.simple_tag
def took(started: datetime | str | None, finished: datetime | str | None) -> str:
    """How long it took, in the unit that suits it; empty while it is not over."""
    if not started or not finished:
        return ""
    ends = [datetime.fromisoformat(at) if isinstance(at, str) else at for at in (started, finished)]
    return in_short(ends[1] - ends[0])
