"""From "tell these people this" to deliveries: who, by which channel, when, in what words, or why not."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from notifications.catalogue import Catalogue, LiveChannel, LiveTemplate, catalogue
from notifications.channels import channel_types
from notifications.models import Channel, Delivery, DeliveryState, Priority, Recipient
from notifications.preferences import quiet_until, wants
from notifications.rendering import PARTS, RenderError, in_language, render_message
from project import bulk
from project.identifiers import new_uid
from project.names import MOST_SHOWN, unknown

DEDUPE_WINDOW: Final = timedelta(hours=1)
TEST: Final = "carillon.test"  # what webhooks see as the type of a message that only tests their channel
PRIORITIES: Final = frozenset(Priority.values)  # made once: Django makes the list anew whenever it is asked


class ComposeError(ValueError):
    """A notification cannot be made as it was asked for; the message says what is wrong and what there is instead."""


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants to tell something.

    `to` names targets: `channel:NAME` (where the channel itself leads), `recipient:NAME` (each kind of address they
    have that a default channel carries), `topic:NAME` (all recipients with the topic), `KIND:ADDRESS` (through the
    default channel of that kind), or a bare address where only one kind has such addresses. `channel` is used instead
    of the default ones.

    Templates see `context` with `data` merged over it. Receivers that are programs (webhooks) get data, not text:
    `data` if given, else `context["event"]`, else the whole context. `template` may be empty where nothing but such
    receivers is named. `origin` is what caused it: what one origin sends to one address by one channel is sent once,
    however often it is asked for. A second notification with the same `dedupe_key` to one address by one channel is
    skipped for an hour. A `draft` is used in place of the stored template: for a test of what is not saved yet.

    `event` has the attributes of a CloudEvent whose data is `data`: it is published as it is, to channels that take
    events, and nothing is rendered.
    """

    origin: UUID | None
    to: Sequence[str]
    template: str = ""
    channel: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None
    category: str = ""
    priority: str = Priority.NORMAL
    dedupe_key: str = ""
    draft: LiveTemplate | None = None
    event: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One address by one channel. `refused` says why nothing is sent there."""

    channel: LiveChannel
    to: str
    recipient: Recipient | None = None
    refused: str = ""


def compose(requests: Sequence[Request]) -> list[list[Delivery]]:
    """Make and store the deliveries of each request, in its order; some may be skipped, with the reason stored.

    Ring `notifications.deliver` afterwards. A handful of statements for any number of requests; what was made before
    (same origin, channel and address) is returned, not made again.

    Raises:
        ComposeError: a request names what is not there, or its template cannot be rendered. Nothing is stored.
    """
    drafts = _drafted(requests)
    everything = [draft for drafted in drafts for draft in drafted]
    with transaction.atomic(savepoint=False):  # nothing below raises but what PostgreSQL raises
        _lock_keys(everything)
        _skip_duplicates(everything)
        stored = Delivery.objects.add(everything)
    return [[stored[draft.uid] for draft in drafted if draft.uid in stored] for drafted in drafts]


def rehearse(request: Request) -> list[Delivery]:
    """What `compose` would make of the request now; nothing is stored, and no lock is taken. Raises ComposeError."""
    [drafts] = _drafted([request])
    _skip_duplicates(drafts)
    channels = Channel.objects.defer("settings").in_bulk({draft.channel_id for draft in drafts})
    for draft in drafts:
        draft.channel = channels[draft.channel_id]
    return drafts


def compose_stand_ins(failed: Sequence[UUID]) -> int:
    """For each of these failed deliveries, make one by its channel's fallback, unless it is a stand-in itself.

    Returns how many.

    There is one stand-in at most for a delivery, so that two channels cannot play ball for ever.
    """
    known = catalogue()
    now = timezone.now()
    drafts = []
    for row in Delivery.objects.filter(uid__in=failed, instead_of__isnull=True).select_related("recipient"):
        channel = known.by_id.get(row.channel_id)
        target = _stand_in(channel, row.recipient, known) if channel else None
        if target is not None:
            request = Request(row.origin, (), row.template, None, {}, None, row.category, row.priority)
            draft = _draft(request, target, now, partial(_readable, row.message))
            draft.instead_of = row.uid
            drafts.append(draft)
    return len(Delivery.objects.add(drafts))


def compose_test(channel: LiveChannel, to: str, by: str) -> Delivery:
    """Make a delivery that only tests the channel, due at once; "" is where the channel itself leads.

    Ring `notifications.deliver` afterwards. A disabled channel gives a skipped one, with the reason.
    """
    said = f"{by} wanted to see whether the channel {channel.name} works. It does."
    message = {"type": TEST, "subject": "A test of Carillon", "text": said, "data": {"channel": channel.name, "by": by}}
    target = Target(channel, to, refused=channel.problem)
    request = Request(None, (), priority=Priority.CRITICAL)
    draft = _draft(request, target, timezone.now(), lambda _: message)
    draft.due_at = None
    Delivery.objects.add([draft])
    return draft


def takes_events(channel: LiveChannel) -> bool:
    """Whether events can be published to a channel of this type."""
    kind = channel_types.get(channel.kind)
    return kind is not None and "event" in kind.parts


def objection(target: str, channel: str | None = None, *, words: bool = True) -> str:
    """Why `compose` would refuse to notify this target, by this channel if one is named; "" when it would not.

    `words`: there is a template. For checking configuration when it is saved. A topic that no recipient has yet is no
    objection.
    """
    request = Request(origin=None, to=[target], channel=channel)
    recipients = _Recipients.named_in([request])
    if target.startswith("topic:") and not recipients.by_topic:
        return ""
    try:
        targets = list(_targets(request, catalogue(), recipients))
    except ComposeError as error:
        return str(error)
    for found in targets if not words else ():
        if found.channel.type is not None and not found.channel.type.parts.isdisjoint(PARTS):
            return f"channel {found.channel.name} ({found.channel.kind}) sends text, so the step needs a template"
    return ""


# --- who, and by which channel ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Recipients:
    """The recipients that a batch of requests names, read in one query."""

    by_name: Mapping[str, Recipient]
    by_topic: Mapping[str, Sequence[Recipient]]

    @classmethod
    def named_in(cls, requests: Iterable[Request]) -> _Recipients:
        targets = {target.partition(":")[::2] for request in requests for target in request.to}
        names = {name for prefix, name in targets if prefix == "recipient"}
        topics = {name for prefix, name in targets if prefix == "topic"}
        by_topic: dict[str, list[Recipient]] = defaultdict(list)
        if not names and not topics:
            return cls({}, by_topic)
        rows = list(Recipient.objects.filter(Q(name__in=names) | Q(topics__overlap=list(topics))))
        for row in rows:
            for topic in topics.intersection(row.topics):
                by_topic[topic].append(row)
        return cls({row.name: row for row in rows}, by_topic)

    def named(self, name: str) -> Recipient:
        if name not in self.by_name:
            raise ComposeError(unknown("recipient", name, list(Recipient.objects.values_list("name", flat=True))))
        return self.by_name[name]

    def with_topic(self, topic: str) -> Sequence[Recipient]:
        return self.by_topic.get(topic, ())


def _targets(request: Request, known: Catalogue, recipients: _Recipients) -> Iterator[Target]:
    """Every address of the request once, in the order they were named."""
    if not request.to:
        raise ComposeError("`to` names nobody; write for example channel:NAME, recipient:NAME or topic:NAME")
    seen = set()
    for name in request.to:
        for target in _resolve(name, request, known, recipients):
            if (key := (target.channel.id, target.to)) not in seen:
                seen.add(key)
                yield target
    if not seen:  # one topic without recipients is no error beside others who hear of it
        raise ComposeError("; ".join(map(_nobody, request.to)))


def _nobody(target: str) -> str:
    topic = target.removeprefix("topic:")
    there_are = {name for names in Recipient.objects.values_list("topics", flat=True) for name in names}
    return f"nobody hears of it: {unknown('topic', topic, sorted(there_are))}"


def _resolve(name: str, request: Request, known: Catalogue, recipients: _Recipients) -> Iterable[Target]:
    prefix, colon, rest = name.partition(":")
    if prefix == "channel":
        return [_own(_channel(rest, known))]
    if prefix == "recipient":
        return _addresses_of(recipients.named(rest), request, known)
    if prefix == "topic":
        return [
            target for recipient in recipients.with_topic(rest) for target in _addresses_of(recipient, request, known)
        ]
    if not colon:
        return [_address(_kind_of(name), name, request, known)]
    if prefix in channel_types:
        return [_address(prefix, rest, request, known)]
    raise ComposeError(_no_target(name))


def _own(channel: LiveChannel) -> Target:
    if channel.type is None:
        return Target(channel, "", refused=channel.problem)
    to = channel.type.own_address()
    if to is None:
        raise ComposeError(
            f"channel {channel.name} has no address of its own: set `to` in its settings, or name a recipient "
            f"or {channel.kind}:ADDRESS and give `channel: {channel.name}`"
        )
    return Target(channel, to)


def _addresses_of(recipient: Recipient, request: Request, known: Catalogue) -> Iterator[Target]:
    """What one recipient may be reached by. Not to be reachable is no error: the others of a topic still are."""
    if request.channel:
        carriers = [_channel(request.channel, known)]
    else:
        carriers = [channel for kind, channel in sorted(known.defaults.items()) if kind in recipient.addresses]
    if not carriers:
        carriers = [_any_default(recipient, known)]
    for channel in carriers:
        yield _at(recipient, channel)


def _at(recipient: Recipient, channel: LiveChannel) -> Target:
    # Of somebody without an address, the row says who it was: two of them must not look like one.
    nowhere = Target(channel, f"recipient:{recipient.name}", recipient)
    if channel.type is None:
        return replace(nowhere, refused=channel.problem)
    if channel.type.address is None:
        return Target(channel, "", recipient)
    try:
        return Target(channel, channel.type.check_address(recipient.addresses[channel.kind]), recipient)
    except KeyError:
        return replace(nowhere, refused=f"recipient {recipient.name} has no address for {channel.kind}")
    except ValueError as error:
        return replace(nowhere, refused=f"recipient {recipient.name}: {error}")


def _address(kind: str, address: str, request: Request, known: Catalogue) -> Target:
    if channel_types[kind].address is None:
        raise ComposeError(f"a channel of type {kind} knows itself where to go; write channel:NAME")
    channel = _channel(request.channel, known) if request.channel else known.defaults.get(kind)
    if channel is None:
        raise ComposeError(
            f"no channel of type {kind} is the default one, so nothing carries {kind}:{address}; "
            "make one the default, or give `channel`"
        )
    if channel.kind != kind:
        raise ComposeError(f"channel {channel.name} is of type {channel.kind} and cannot carry {kind}:{address}")
    if channel.type is None:
        return Target(channel, address, refused=channel.problem)
    try:
        return Target(channel, channel.type.check_address(address))
    except ValueError as error:
        raise ComposeError(str(error)) from error


def _kind_of(address: str) -> str:
    kinds = [kind for kind in _kinds_with_addresses() if _is_address(kind, address)]
    if len(kinds) != 1:
        raise ComposeError(
            f'"{address}" could be an address for {" and ".join(kinds)}; write for example {kinds[0]}:{address}'
            if kinds
            else _no_target(address)
        )
    return kinds[0]


def _no_target(name: str) -> str:
    addresses = ", ".join(f"{kind}:ADDRESS" for kind in _kinds_with_addresses())
    return f'"{name}" is no target; write channel:NAME, recipient:NAME, topic:NAME, or {addresses}'


def _kinds_with_addresses() -> list[str]:
    return [kind for kind, type_ in channel_types.items() if type_.address is not None]


def _is_address(kind: str, address: str) -> bool:
    try:
        channel_types[kind].check_address(address)
    except ValueError:
        return False
    return True


def _channel(name: str, known: Catalogue) -> LiveChannel:
    if name not in known.channels:
        raise ComposeError(unknown("channel", name, sorted(known.channels)))
    return known.channels[name]


def _any_default(recipient: Recipient, known: Catalogue) -> LiveChannel:
    """A channel that did not reach the recipient, so that there is a row that says so."""
    for kind in _kinds_with_addresses():
        if kind in known.defaults:
            return known.defaults[kind]
    raise ComposeError(
        f"no default channel takes addresses, so nothing reaches recipient {recipient.name}; "
        f"make a channel of type {' or '.join(_kinds_with_addresses())} the default, or give `channel`"
    )


def _stand_in(channel: LiveChannel, recipient: Recipient | None, known: Catalogue) -> Target | None:
    """Where the channel's fallback would take a message for this recipient; None when it has none, or leads nowhere."""
    fallback = known.by_id.get(channel.fallback_id or 0)
    if fallback is None or fallback.type is None or not fallback.enabled or fallback.id == channel.id:
        return None
    theirs = recipient.addresses.get(fallback.kind) if recipient and fallback.type.address else None
    to = theirs or fallback.type.own_address()
    return None if to is None else Target(fallback, to, recipient if theirs else None)


# --- when, or why not ------------------------------------------------------------------------------------------------


def _drafted(requests: Sequence[Request]) -> list[list[Delivery]]:
    """The deliveries of each request, not stored. Raises ComposeError."""
    known = catalogue()
    recipients = _Recipients.named_in(requests)
    now = timezone.now()
    return [_drafts(request, list(_targets(request, known, recipients)), known, now) for request in requests]


def _drafts(request: Request, targets: Sequence[Target], known: Catalogue, now: datetime) -> list[Delivery]:
    if request.priority not in PRIORITIES:
        raise ComposeError(unknown("priority", request.priority, Priority.values))
    if request.template and request.draft is None and request.template not in known.templates:
        raise ComposeError(unknown("template", request.template, sorted(known.templates)))
    words = _Words(request, known)
    drafts = []
    for target in targets:
        if request.event is not None and not takes_events(target.channel):
            raise ComposeError(f"channel {target.channel.name} is of type {target.channel.kind}, which takes no events")
        draft = _draft(request, target, now, words.for_target)
        drafts.append(draft)
        replacement = None if target.channel.enabled else _stand_in(target.channel, target.recipient, known)
        if replacement is not None:
            draft.reason += f"; {replacement.channel.name} stands in"
            drafts.append(_draft(request, replacement, now, words.for_target))
            drafts[-1].instead_of = draft.uid
    return drafts


def _draft(request: Request, target: Target, now: datetime, words: Callable[[Target], dict[str, Any]]) -> Delivery:
    reason = _reason_to_skip(request, target)
    draft = bulk.new(
        Delivery,
        uid=new_uid(),
        channel_id=target.channel.id,
        kind=target.channel.kind,
        to=target.to,
        recipient_id=target.recipient.pk if target.recipient else None,
        origin=request.origin,
        template=request.template,
        category=request.category,
        priority=request.priority,
        dedupe_key=request.dedupe_key,
        state=DeliveryState.SKIPPED if reason else DeliveryState.PENDING,
        reason=reason,
        message={} if reason else words(target),
    )
    if not reason:
        draft.due_at = _due_at(request, target, now)
    return draft


def _reason_to_skip(request: Request, target: Target) -> str:
    channel, recipient = target.channel, target.recipient
    if target.refused:
        return target.refused
    if not channel.enabled:
        return f"channel {channel.name} is disabled"
    if recipient is None:
        return ""
    if not recipient.enabled:
        return f"recipient {recipient.name} is disabled"
    if not wants(recipient.preferences, request.category, channel.kind):
        return f"recipient {recipient.name} wants no {request.category} by {channel.kind}"
    return ""


def _due_at(request: Request, target: Target, now: datetime) -> datetime | None:
    """When it is first tried; None: at once."""
    delay = target.channel.schedule.delay_after(0)
    due_at = now + delay if delay else None
    if target.recipient and request.priority != Priority.CRITICAL:
        quiet = quiet_until(target.recipient.quiet_hours, target.recipient.time_zone, now)
        return max(filter(None, (due_at, quiet)), default=None)
    return due_at


def _keyed(drafts: Sequence[Delivery]) -> list[Delivery]:
    return [draft for draft in drafts if draft.dedupe_key and draft.state == DeliveryState.PENDING]


def _lock_keys(drafts: Sequence[Delivery]) -> None:
    """Two workers with the same dedupe key at the same time: the second waits here, and then sees the first's row."""
    if keys := sorted({draft.dedupe_key for draft in _keyed(drafts)}):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('dedupe ' || key, 0)) FROM unnest(%s::text[]) AS key",
                [keys],
            )


def _skip_duplicates(drafts: Sequence[Delivery]) -> None:
    """Skip what has a dedupe key that was used for the same channel and address within the window."""
    keyed = _keyed(drafts)
    if not keyed:
        return
    keys = {draft.dedupe_key for draft in keyed}
    recent = Delivery.objects.filter(
        dedupe_key__in=keys,
        created_at__gt=Now() - DEDUPE_WINDOW,
        state__in=(DeliveryState.PENDING, DeliveryState.DELIVERED),
    ).order_by("created_at")
    first: dict[tuple[str, int, str], UUID] = {}
    for row in recent.only("uid", "dedupe_key", "channel_id", "to"):
        first.setdefault((row.dedupe_key, row.channel_id, row.to), row.uid)
    for draft in keyed:
        uid = first.setdefault((draft.dedupe_key, draft.channel_id, draft.to), draft.uid)
        if uid != draft.uid:
            draft.state, draft.message, draft.due_at = DeliveryState.SKIPPED, {}, None
            draft.reason = (
                f'a duplicate of delivery {uid}, which had the dedupe key "{draft.dedupe_key}" within the last hour'
            )


# --- in what words ---------------------------------------------------------------------------------------------------


class _Words:
    """One request's message, made once for each language and kind of receiver."""

    def __init__(self, request: Request, known: Catalogue) -> None:
        self._request = request
        self._known = known
        self._template = request.draft or known.templates.get(request.template)
        self._context = {**request.context, **(request.data or {})} if request.event is None else {}
        self._made: dict[tuple[str, frozenset[str]], dict[str, Any]] = {}

    def for_target(self, target: Target) -> dict[str, Any]:
        if self._request.event is not None:
            event = {"type": self._request.event["type"], "event": self._request.event, "data": self._request.data}
            return _readable(event, target)
        language = target.recipient.language if target.recipient else ""
        parts = self._parts(target.channel)
        key = (language, parts)
        if key not in self._made:
            self._made[key] = self._make(target.channel, language, parts)
        return self._made[key]

    def _parts(self, channel: LiveChannel) -> frozenset[str]:
        """What this channel sends, and what its fallback would: there is no context to render with later."""
        parts = channel.type.parts if channel.type else frozenset()
        fallback = self._known.by_id.get(channel.fallback_id or 0)
        if fallback is not None and fallback.type is not None and (self._template or "data" in fallback.type.parts):
            return parts | fallback.type.parts
        return parts

    def _make(self, channel: LiveChannel, language: str, parts: frozenset[str]) -> dict[str, Any]:
        message: dict[str, Any] = {"type": self._type(), **self._rendered(channel, language, parts)}
        if "data" in parts:
            event = self._context.get("event")
            data = self._request.data
            message["data"] = data if data is not None else event if event is not None else self._context
        if "event" in parts:
            message["event"] = self._about()
        return message

    def _about(self) -> dict[str, Any]:
        """What keeps a notification in line with others about the same thing: the subject of the event it tells of."""
        event = self._context.get("event")
        return {"subject": event["subject"]} if isinstance(event, Mapping) and event.get("subject") else {}

    def _rendered(self, channel: LiveChannel, language: str, parts: frozenset[str]) -> dict[str, str]:
        if parts.isdisjoint(PARTS):
            return {}
        template = self._template
        if template is None:
            raise ComposeError(
                f"channel {channel.name} ({channel.kind}) sends text, so it needs a template; "
                f"known: {', '.join(sorted(self._known.templates)[:MOST_SHOWN]) or 'none'}"
            )
        sources = in_language(template.sources, template.languages, language)
        try:
            return render_message(template.name, sources, parts, self._context)
        except RenderError as error:
            raise ComposeError(str(error)) from error

    def _type(self) -> str:
        event = self._context.get("event")
        type_ = event.get("type") if isinstance(event, Mapping) else None
        return str(type_ or self._request.template or "notification")


def _readable(message: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """A message for another channel than it was made for: data is shown as it is where there are no words."""
    parts = target.channel.type.parts if target.channel.type else frozenset[str]()
    if parts.isdisjoint(PARTS) or any(message.get(part) for part in PARTS):
        return dict(message)
    return {
        **message,
        "subject": message["type"],
        "text": json.dumps(message.get("data"), indent=2, ensure_ascii=False),
    }
