"""From a stored event to a command line that sends such an event again."""

from __future__ import annotations

import json
import shlex
from typing import Any, Final

from events.cloudevents import PLAIN, STRUCTURED
from events.models import Event
from project.identifiers import OWN_SOURCE, new_uid

LONGEST: Final = 30_000  # characters of an argument; Linux takes 128 KiB, and a character has up to four bytes
KEY: Final = "$CARILLON_API_KEY"  # the shell fills it in


def curl(event: Event, url: str) -> str:
    """A command for a POSIX shell that sends the event to this address as a new one: with a new id, and now.

    The key is taken from the variable CARILLON_API_KEY. What Carillon made itself is sent as the key's source.
    """
    body: dict[str, Any] = {"type": event.type, "data": event.data}
    own = event.source == OWN_SOURCE or event.source.startswith(f"{OWN_SOURCE}/")
    if not own:
        body["source"] = event.source
    if event.subject:
        body["subject"] = event.subject
    if event.dataschema:
        body["dataschema"] = event.dataschema
    kind = PLAIN
    if event.extensions and not own:  # the plain form has no place for them; this one wants an id
        kind, body = STRUCTURED, {"specversion": "1.0", "id": str(new_uid()), **body, **event.extensions}
    text = json.dumps(body, ensure_ascii=False)
    sent = shlex.quote(text) if len(text) < LONGEST else f"@- <<'END'\n{text}\nEND"
    return f'curl {shlex.quote(url)} -H "Authorization: Bearer {KEY}" -H "Content-Type: {kind}" -d {sent}'
