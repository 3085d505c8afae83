"""Who may do what: three groups, whose permissions follow from what the admin shows.

    viewer      sees everything, but no secret, and nothing to press
    operator    may also act: retry, cancel, replay, pause, decide, fire, send a test
    editor      may also change the configuration

Users and groups are for superusers only. Acting on a fact needs its `change` permission, because nobody changes a fact;
acting on configuration needs `operate`, which is made here, because who may pause a channel need not be able to point
it elsewhere. docs/how-to/people-and-roles.md tells people.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from auditlog.context import disable_auditlog
from django.apps import apps as installed
from django.conf import settings
from django.contrib.admin import site
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import models

from project.admin import Configuration, Facts
from project.models import Heartbeat

Wanted = set[tuple[str, str]]
"""Permissions, as (app label, codename)."""


class Role(models.TextChoices):
    """The groups, by their names. Each may also do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    EDITOR = "editor"


OWN: Final = {"project", "notifications", "workflows", "events"}


def grant(**kwargs: Any) -> None:
    """Make the groups what this file says, with the permissions that there are now. Again changes nothing.

    Called after every `migrate` (project/apps.py), not by a migration: Django makes a model's permissions when all
    migrations have run, so a migration would find none in a new database, and would know nothing of models that come
    later, in another release or in an app of your own.
    """
    if "group" not in kwargs.get("apps", installed).all_models["auth"]:
        return  # `migrate` was told to stop before there are any
    with disable_auditlog():  # nobody did it
        _make_operable()
        for role in Role:
            group, _ = Group.objects.get_or_create(name=role.value)
            wanted = permissions_of(role)
            found = Permission.objects.filter(codename__in={codename for _, codename in wanted}).select_related(
                "content_type"
            )
            group.permissions.set([it for it in found if (it.content_type.app_label, it.codename) in wanted])


def permissions_of(role: Role) -> Wanted:
    """What the role may, of the models that the admin shows."""
    wanted = {("project", f"view_{Heartbeat._meta.model_name}")}  # the processes: it opens Flower
    if role is not Role.VIEWER:
        wanted.add(("project", f"operate_{Heartbeat._meta.model_name}"))
    for model, options in shown():
        wanted |= {(model._meta.app_label, f"{word}_{model._meta.model_name}") for word in _words(role, model, options)}
    return wanted


def shown() -> Iterator[tuple[type[models.Model], Any]]:
    """The models of Carillon and of your own apps that the admin shows, each with how; None: inside of another."""
    labels = OWN | {
        config.label
        for config in installed.get_app_configs()
        if any(f"{name}.".startswith(f"{config.name}.") for name in settings.CARILLON_APPS)
    }
    for model, options in site._registry.items():
        if model._meta.app_label in labels:
            yield model, options
            for inline in options.inlines:
                if inline.model not in site._registry:
                    yield inline.model, None


def _words(role: Role, model: type[models.Model], options: Any) -> set[str]:
    if role is Role.VIEWER or options is None:
        return {"view"}
    if isinstance(options, Facts):
        return {"view", "change"}.intersection(model._meta.default_permissions)
    operate = {"view", "operate"} if isinstance(options, Configuration) else {"view"}
    return operate if role is Role.OPERATOR else {*operate, "add", "change", "delete"}


def _make_operable() -> None:
    """The permissions that Django does not make by itself."""
    operable = {model for model, options in shown() if isinstance(options, Configuration)} | {Heartbeat}
    for model, kind in ContentType.objects.get_for_models(*operable).items():
        Permission.objects.get_or_create(
            content_type=kind,
            codename=f"operate_{model._meta.model_name}",
            defaults={"name": f"Can operate {model._meta.verbose_name}"},
        )
