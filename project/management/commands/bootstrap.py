"""From an empty database to a stack that can be used: tables, the given configuration, an administrator, an API key."""

import secrets
from pathlib import Path
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from project import envfile


class Command(BaseCommand):
    help = (
        "Migrate, apply configuration, and make an administrator and an API key as the given file of KEY=value lines "
        "names them; what is missing there is made up and written back. Running it again changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", type=Path, help="holds CARILLON_ADMIN_USER, CARILLON_ADMIN_PASSWORD, CARILLON_API_KEY"
        )
        parser.add_argument("--apply", nargs="*", default=[], metavar="PATH", help="configuration to load (YAML)")
        parser.add_argument("--source", default="local", help="the source that the API key belongs to")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=1, stdout=self.stdout)
        if options["apply"]:
            call_command("apply", *options["apply"], stdout=self.stdout)
        kept = envfile.read(options["file"])
        ensure_administrator(kept)
        kept["CARILLON_API_KEY"] = ensure_key(kept.get("CARILLON_API_KEY", ""), options["source"])
        envfile.write(options["file"], kept)


def ensure_administrator(kept: dict[str, str]) -> None:
    """Make the superuser that `kept` names; one whose password is not known there gets a new one."""
    users = get_user_model()
    name = kept.setdefault("CARILLON_ADMIN_USER", "admin")
    known = "CARILLON_ADMIN_PASSWORD" in kept
    password = kept.setdefault("CARILLON_ADMIN_PASSWORD", secrets.token_urlsafe(12))
    user = users.objects.filter(username=name).first()
    if user is None:
        users.objects.create_superuser(username=name, email="", password=password)
    elif not known:
        user.set_password(password)
        user.save()


def ensure_key(key: str, source: str) -> str:
    """The key if the database knows it, else a new one with every scope, of a source that is made when missing."""
    api_key: Any = apps.get_model("events", "ApiKey")  # the kernel imports no app; this command only wires them
    if key and api_key.objects.filter(digest=api_key.digest_of(key), revoked_at=None).exists():
        return key
    owner, _ = apps.get_model("events", "Source").objects.get_or_create(name=source)
    scopes = [scope for scope, _ in api_key._meta.get_field("scopes").base_field.choices]
    _, fresh = api_key.issue(owner, "make run", scopes)
    return str(fresh)
