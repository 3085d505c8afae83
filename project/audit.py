"""The audit log: which changes of the configuration are kept, what of them, and in whose name.

What the admin lets people edit is configuration (`project.admin.Configuration`), and so are its parts on the same page
(versions of schemas and workflows), people, groups and second factors. Of these django-auditlog keeps every change that
goes through `save`, `delete` or a relation: in the admin, by `manage.py apply`, anywhere. Facts are not watched at all,
and `QuerySet.update`, `bulk_create` and SQL are not seen: code that changes configuration saves rows. The event types
that a source's adapter brings are no change by anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from auditlog.context import set_extra_data
from auditlog.registry import auditlog
from django.contrib.admin import site
from django.contrib.auth.models import Group, User
from django.db import models
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django_otp.plugins.otp_totp.models import TOTPDevice

from project.admin import Configuration
from project.login import address_of
from project.secrets import MASK, EncryptedTextField

PEOPLE: Final = {
    User: ("username", "first_name", "last_name", "email", "password", "is_active", "is_staff", "is_superuser"),
    Group: ("name",),
    TOTPDevice: ("user", "confirmed"),
}
"""Who may what, with the fields that say it."""


def watch() -> None:
    """Have the changes kept. Called once, when the admin knows its models."""
    for model in configuration():
        _watch(model, [field.name for field in model._meta.concrete_fields if field.editable and not field.primary_key])
    for model, fields in PEOPLE.items():
        _watch(model, list(fields))


def configuration() -> list[type[models.Model]]:
    """The models of the configuration, each with its parts after it."""
    found = [
        part
        for model, options in site._registry.items()
        if isinstance(options, Configuration)
        for part in (model, *(inline.model for inline in options.inlines))
    ]
    return list(dict.fromkeys(found))


def _watch(model: type[models.Model], fields: list[str]) -> None:
    secrets = [field.name for field in model._meta.concrete_fields if isinstance(field, EncryptedTextField)]
    auditlog.register(
        model,
        include_fields=fields,
        mask_fields=[*secrets, "password"],
        mask_callable="project.audit.masked",
        m2m_fields={field.name for field in model._meta.many_to_many},
    )


def masked(value: str) -> str:
    """What is kept of a secret: whether there is one."""
    return "" if value in ("", "None", "{}") else MASK


def sign(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """A middleware: what a request changes was changed by whoever is logged in.

    Not django-auditlog's own: that one believes headers, and what is no address, or too long, would be an error 500.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.method in ("GET", "HEAD", "OPTIONS", "TRACE"):
            return get_response(request)
        with set_extra_data({"actor": request.user, "remote_addr": address_of(request)}):
            return get_response(request)

    return middleware


def by(program: str) -> AbstractContextManager[Any]:
    """What is changed inside was changed by a program: `with by("manage.py apply"): …`."""
    inside: AbstractContextManager[Any] = set_extra_data({"additional_data": {"by": program}})
    return inside
