"""The admin's sidebar: what there is, grouped as a person thinks."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

Item = dict[str, Any]

GROUPS: Final = {
    "Events": {
        "events.event": "bolt",
        "events.eventtype": "category",
        "events.source": "input",
        "events.subscription": "rule",
        "events.schedule": "schedule",
        "events.deadletter": "unsubscribe",
    },
    "Workflows": {"workflows.workflow": "account_tree", "workflows.run": "play_circle", "workflows.record": "database"},
    "Notifications": {
        "notifications.delivery": "outgoing_mail",
        "notifications.channel": "campaign",
        "notifications.template": "article",
        "notifications.recipient": "contacts",
    },
    "Operations": {"project.auditentry": "history", "auth.user": "person", "auth.group": "group"},
}
"""Models with their icons. Those of other apps follow in Operations; ELSEWHERE are reached from other pages."""

ELSEWHERE: Final = {"events.apikey", "workflows.workflowversion"}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """unfold's navigation, for this person."""
    models = {model._meta.label_lower: options for model, options in admin.site._registry.items()}
    placed = {label for group in GROUPS.values() for label in group} | ELSEWHERE
    groups = []
    for title, wanted in GROUPS.items():
        items = [_model(models[label], icon) for label, icon in wanted.items() if label in models]
        if title == "Operations":
            others = [_model(options, "table") for label, options in sorted(models.items()) if label not in placed]
            items = [*_pages(), *items, *others]
        groups.append({"title": title, "collapsible": False, "items": items})
    return [{"items": [{"title": "Overview", "icon": "dashboard", "link": reverse("admin:index")}]}, *groups]


def _model(options: admin.ModelAdmin[Any], icon: str) -> Item:
    opts = options.opts
    plural = str(opts.verbose_name_plural)
    return {
        "title": plural[:1].upper() + plural[1:],
        "icon": icon,
        "link": reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist"),
        # A function, because unfold copies all this deeply and would copy the options of a bound method.
        "permission": lambda request: options.has_view_permission(request),
    }


def _pages() -> list[Item]:
    pages: list[Item] = [
        {"title": "Getting started", "icon": "flag", "link": reverse("start")},
        {"title": "API documentation", "icon": "api", "link": reverse("docs")},
        {"title": "Health", "icon": "monitor_heart", "link": reverse("readyz")},
        {"title": "Metrics", "icon": "monitoring", "link": reverse("metrics")},
    ]
    if settings.INBOX:
        pages.insert(0, {"title": "Local inbox", "icon": "inbox", "link": "/inbox/"})
    if settings.FLOWER_URL:
        pages.insert(
            0,
            {
                "title": "Flower",
                "icon": "local_florist",
                "link": settings.FLOWER_URL,
                "permission": lambda request: request.user.has_perm("project.view_heartbeat"),
            },
        )
    return pages
