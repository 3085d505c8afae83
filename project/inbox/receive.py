"""From what SMTP and the Slack webhook bring to a kept message."""

from collections.abc import Iterator, Mapping
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

from project.inbox.models import Message


def mail(content: bytes, recipients: list[str]) -> Message:
    """Keep a mail as it came over SMTP; `recipients` are the envelope's, so blind copies show."""
    parsed = BytesParser(policy=policy.default).parsebytes(content)
    assert isinstance(parsed, EmailMessage)  # what policy.default makes
    return Message.objects.keep(
        kind=Message.Kind.EMAIL,
        to=", ".join(recipients),
        subject=str(parsed["Subject"] or ""),
        text=_storable(_body(parsed, "plain")),
        html=_storable(_body(parsed, "html")),
        headers={name: _storable(str(value)) for name, value in parsed.items()},
    )


def chat(payload: Mapping[str, Any], headers: Mapping[str, str]) -> Message:
    """Keep what a Slack incoming webhook takes: `text`, `blocks` or `attachments`.

    Raises:
        ValueError: there is nothing in it to show, which Slack calls `no_text`.
    """
    text = payload.get("text") or "\n".join(_texts([payload.get("blocks"), payload.get("attachments")]))
    if not isinstance(text, str) or not text.strip():
        raise ValueError("no_text")
    return Message.objects.keep(
        kind=Message.Kind.CHAT,
        to=str(payload.get("channel") or "#inbox"),
        subject=str(payload.get("username") or ""),
        text=_storable(text),
        headers=dict(headers),
    )


def _body(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    if part is None:
        return ""
    try:
        return str(part.get_content())
    except LookupError:  # a character set that nobody knows
        payload = part.get_payload(decode=True)
        return payload.decode(errors="replace") if isinstance(payload, bytes) else ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("text", "fallback", "title", "value") and isinstance(inner, str):
                yield inner
            else:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _storable(text: str) -> str:
    return text.replace("\x00", "")  # the one character PostgreSQL's text cannot hold
