"""Whether the channels can carry what is sent."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.exceptions import ValidationError
from django.utils import timezone

from notifications.catalogue import LiveChannel
from notifications.models import Channel, Recipient
from project.doctor import Finding, examination


@examination
def channels() -> Iterator[Finding]:
    rows = list(Channel.objects.order_by("name"))
    for row in rows:
        yield _examined(row)
    carried = {row.type for row in rows if row.default and row.enabled}
    addressed = {kind for addresses in Recipient.objects.values_list("addresses", flat=True) for kind in addresses}
    for kind in sorted(addressed - carried):
        yield Finding(
            f"{kind} addresses",
            wrong=f"recipients have {kind} addresses, and no enabled channel of the type {kind} is the default",
            remedy=f"Set `default: true` on a channel of the type {kind}.",
        )


def _examined(row: Channel) -> Finding:
    name = f"channel {row.name}"
    if not row.enabled and row.hold_reason.startswith("switched off"):
        return Finding(
            name,
            wrong=row.hold_reason,
            remedy="Mend the far side or the settings, enable it, and send its failed deliveries again.",
        )
    if not row.enabled:
        return Finding(name, note="disabled")
    if row.paused_at:
        told = f" {row.pause_reason}," if row.pause_reason else ""
        return Finding(name, note=f"paused{told} since {row.paused_at:%Y-%m-%d %H:%M} UTC; what is due for it waits")
    try:
        row.full_clean()
    except ValidationError:
        return Finding(name, note=f"see Channel {row.name}")  # `configuration` says what is wrong with it
    if problem := LiveChannel.of(row).problem:
        return Finding(
            name, wrong=problem, remedy="Set what is missing where web, worker and sender run, or change its settings."
        )
    if row.hold_until and row.hold_until > timezone.now():
        return Finding(
            name,
            wrong=f"held back until {row.hold_until:%H:%M:%S}: {row.hold_reason}",
            remedy="It is tried again by itself; when it stays held, see what the far side answers.",
        )
    return Finding(name)
