"""The pages of a channel beside its form: how it fares, a test, a pause, a new secret, what failed sent again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from notifications import health, pausing, recovery, rotation, story
from notifications.catalogue import LiveChannel
from notifications.compose import compose_test
from notifications.models import Channel, Delivery, Recovery
from project import bounded
from project.admin import Configuration, confirm, done, only
from project.doorbell import ring

SHOWN_FOR: Final = timedelta(days=1)  # a recovery that is over
HOURS: Final = {
    "1": "the last hour",
    "24": "the last 24 hours",
    "72": "the last 3 days",
    "168": "the last 7 days",
    "720": "the last 30 days",
}


class PauseForm(BaseDialogForm):
    reason = forms.CharField(
        max_length=200,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="For whoever wonders. May be empty.",
    )


class TestForm(forms.Form):
    """Where a test goes; without a field where the channel itself knows."""

    to = forms.CharField(max_length=500, widget=UnfoldAdminTextInputWidget)

    def __init__(self, channel: Channel, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.live = LiveChannel.of(channel)
        if self.live.type is None or self.live.type.address is None:
            del self.fields["to"]
        else:
            self.fields["to"].label = self.live.type.address.capitalize()
            self.fields["to"].initial = self.live.type.own_address()

    def clean_to(self) -> str:
        to: str = self.cleaned_data["to"]
        try:
            return self.live.type.check_address(to) if self.live.type else to
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


class RecoverForm(forms.Form):
    """Since when: one of the usual times, or an exact one."""

    hours = forms.ChoiceField(label="What failed in", widget=UnfoldAdminSelectWidget)
    since = forms.DateTimeField(
        label="Or since exactly (UTC)",
        required=False,
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
        widget=UnfoldAdminTextInputWidget({"type": "datetime-local"}),
    )

    def __init__(self, channel: Channel, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._failing_since = channel.failing_since
        trouble = [("trouble", "the time since it began to fail")] if channel.failing_since else []
        self.fields["hours"].choices = [*trouble, *HOURS.items()]  # type: ignore[attr-defined]

    @staticmethod
    def usual(channel: Channel) -> str:
        return "trouble" if channel.failing_since else "24"

    @property
    def begins(self) -> datetime:
        """The time that a valid form means."""
        exact: datetime | None = self.cleaned_data["since"]
        if exact:
            return exact.replace(tzinfo=UTC)
        if self.cleaned_data["hours"] == "trouble" and self._failing_since:
            return self._failing_since
        return timezone.now() - timedelta(hours=int(self.cleaned_data["hours"]))


class ChannelPages(Configuration):
    """What a channel's admin has these pages from."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.health_view)
        return [path("<path:object_id>/health/", view, name="notifications_channel_health"), *super().get_urls()]

    def has_deliver_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether this person may have deliveries made or sent again."""
        return bool(request.user.has_perm("notifications.change_delivery"))

    def _channel(self, request: HttpRequest, object_id: str) -> Channel:
        channel: Channel = only(self, request, object_id).get()
        if not self.has_view_permission(request, channel):
            raise PermissionDenied
        return channel

    def _page(
        self, request: HttpRequest, channel: Channel, template: str, title: str, **context: Any
    ) -> TemplateResponse:
        """A page of its own, or only the part of it that HTMX asks for."""
        part = request.headers.get("HX-Request")
        everything = {
            **({} if part else self.admin_site.each_context(request)),
            "title": title,
            "opts": self.opts,
            "original": channel,
            "channel": channel,
            "back": reverse("admin:notifications_channel_change", args=[channel.pk]),
            **context,
        }
        folder = "facts/channel" if part else "admin/notifications/channel"
        return TemplateResponse(request, f"{folder}/{template}.html", everything)

    def useless(self, channel: Channel) -> set[str]:
        """The actions that would change nothing now."""
        return {
            "resume" if channel.paused_at is None else "pause",
            *([] if rotation.rotates(channel) else ["rotate"]),
            *([] if rotation.rotating(channel) else ["forget_secret"]),
            *([] if channel.enabled else ["pause"]),
        }

    # --- how it fares -------------------------------------------------------------------------------------------------

    def health_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        channel = self._channel(request, object_id)
        return TemplateResponse(request, "facts/channel/health.html", self.tell(request, channel))

    def tell(self, request: HttpRequest, channel: Channel) -> dict[str, Any]:
        """What facts/channel/health.html shows. A handful of queries that end at a bound."""
        sees_deliveries = request.user.has_perm("notifications.view_delivery")
        latest = channel.recoveries.order_by("-until").first()
        now = timezone.now()
        return {
            "channel": channel,
            "state": health.word(channel),
            "held": channel.hold_until is not None and channel.hold_until > now,
            "switched_off": not channel.enabled and channel.hold_reason.startswith("switched off"),
            "fared": [(name, health.fared(channel, within)) for name, within in health.WITHIN.items()],
            "most": bounded.MOST,
            "waiting": health.waiting(channel),
            "last_errors": health.errors(channel) if sees_deliveries else [],
            "recovery": latest if latest and (latest.due_at or latest.until > now - SHOWN_FOR) else None,
            "counted": recovery.COUNTED,
            "as_of": now,
        }

    # --- a test -------------------------------------------------------------------------------------------------------

    @action(description="Send a test", icon="send", permissions=["deliver"])
    def test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        channel = self._channel(request, object_id)
        form = TestForm(channel, request.POST if request.method == "POST" else None)
        if form.is_valid():
            sent = compose_test(form.live, form.cleaned_data.get("to", ""), str(request.user))
            ring("notifications.deliver", "test")
            self.log_change(request, channel, f"Sent a test: {sent.uid}.")
            return redirect(f"{request.path}?delivery={sent.uid}")
        show = partial(self._page, request, channel, "test", f"Test {channel}", form=form)
        if uid := request.GET.get("delivery"):
            return show(delivery=story.tell([_delivery_of(channel, uid)])[0])
        return show()

    # --- a pause ------------------------------------------------------------------------------------------------------

    @action(
        description="Pause",
        icon="pause",
        permissions=["operate"],
        dialog={
            **confirm(
                "Pause this channel?",
                "What is due, and what comes, waits until you resume it. Nothing fails. "
                "Attempts under way come to their end.",
                "Pause",
            ),
            "form_class": PauseForm,
        },
    )
    def pause(self, request: HttpRequest, form: PauseForm, object_id: str) -> HttpResponse:
        reason = form.cleaned_data["reason"]
        told = f"by {request.user}" + (f": {reason}" if reason else "")
        channel = self._channel(request, object_id)
        if pausing.pause(Channel.objects.filter(pk=channel.pk), told):
            self.log_change(request, channel, f"Paused{': ' + reason if reason else ''}.")
        self.message_user(request, f"Paused: {channel}. What is due for it waits.")
        return done(request, reverse("admin:notifications_channel_change", args=[channel.pk]))

    @action(
        description="Resume",
        icon="play_arrow",
        permissions=["operate"],
        dialog=confirm("Resume this channel?", "What waited is sent, at the channel's own pace.", "Resume"),
    )
    def resume(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        channel = self._channel(request, object_id)
        if pausing.resume(Channel.objects.filter(pk=channel.pk)):
            self.log_change(request, channel, "Resumed.")
            ring("notifications.deliver", "admin")
        self.message_user(request, f"Resumed: {channel}.")
        return done(request, reverse("admin:notifications_channel_change", args=[channel.pk]))

    # --- a new secret -------------------------------------------------------------------------------------------------

    @action(description="Make a new secret", icon="key", url_path="rotate", permissions=["change"])
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        channel = self._channel(request, object_id)
        if not rotation.rotates(channel):
            raise Http404(f"A channel of the type {channel.type} has no secret of ours.")
        secret, refused = "", ""
        if request.method == "POST":
            try:
                secret = rotation.rotate(channel)
            except rotation.CannotRotate as error:
                refused = str(error)
            else:
                self.log_change(request, channel, "Made a new secret.")
                channel.refresh_from_db()
        again = rotation.rotating(channel)
        title = f"A new secret for {channel}"
        return self._page(request, channel, "rotate", title, secret=secret, refused=refused, again=again)

    @action(
        description="Forget the previous secret",
        icon="key_off",
        url_path="forget-secret",
        permissions=["change"],
        dialog=confirm(
            "Forget the previous secret?",
            "Calls are signed with the new secret only. A receiver that still verifies with the previous one refuses "
            "them.",
            "Forget it",
        ),
    )
    def forget_secret(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        channel = self._channel(request, object_id)
        rotation.forget(channel)
        self.log_change(request, channel, "Forgot the previous secret.")
        self.message_user(request, f"{channel} signs with the new secret only.")
        return done(request, reverse("admin:notifications_channel_change", args=[channel.pk]))

    # --- what failed, again -------------------------------------------------------------------------------------------

    @action(description="Recover", icon="replay", permissions=["deliver"])
    def recover(self, request: HttpRequest, object_id: str) -> HttpResponse:
        channel = self._channel(request, object_id)
        show = partial(self._page, request, channel, "recover", f"Send again what failed in {channel}")
        if pk := request.GET.get("recovery"):
            return show(recovery=_recovery_of(channel, pk), counted=recovery.COUNTED)
        given = request.POST or request.GET
        form = RecoverForm(
            channel, given if "hours" in given else {"hours": "trouble" if channel.failing_since else "24"}
        )
        if request.method == "POST" and form.is_valid():
            begun = recovery.recover(channel, form.begins, str(request.user))
            self.log_change(request, channel, f"Sent again what failed since {form.begins:%Y-%m-%d %H:%M} UTC.")
            return redirect(f"{request.path}?recovery={begun.pk}")
        found = bounded.count(recovery.lost(channel, form.begins), recovery.COUNTED) if form.is_valid() else None
        return show(form=form, found=found)


def _delivery_of(channel: Channel, uid: str) -> Delivery:
    try:
        row = channel.deliveries.filter(pk=UUID(uid)).select_related("channel").first()
    except ValueError:
        row = None
    if row is None:
        raise Http404(f"There is no delivery {uid} of {channel}.")
    return row


def _recovery_of(channel: Channel, pk: str) -> Recovery:
    row = channel.recoveries.filter(pk=pk).first() if pk.isdecimal() and len(pk) < 19 else None
    if row is None:
        raise Http404(f"There is no such recovery of {channel}.")
    return row
