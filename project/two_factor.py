"""The second factor: a code of an app on somebody's phone (TOTP, RFC 6238), and recovery codes for when it is lost."""

from __future__ import annotations

import re
from base64 import b32encode
from datetime import datetime
from typing import Any, Final

import segno
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django_otp import verify_token
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

CODES: Final = 10
"""Recovery codes that are made at once; each works once."""


def device_of(user: Any) -> TOTPDevice | None:
    """The person's app, once it has proved itself. None: they log in with the password alone."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).first()


def begin(user: AbstractBaseUser) -> TOTPDevice:
    """An app's secret that is still to be confirmed; the same one until it is."""
    device = TOTPDevice.objects.filter(user=user, confirmed=False).order_by("pk").first()
    return device or TOTPDevice.objects.create(user=user, confirmed=False, name="app")


def confirm(user: AbstractBaseUser, token: str) -> TOTPDevice | None:
    """Turn it on, if the token proves that the app knows the secret; None when it does not."""
    device = verify_token(user, begin(user).persistent_id, _plain(token))
    if device is not None:
        device.confirmed = True
        device.save(update_fields=["confirmed"])
    return device


def check(user: AbstractBaseUser, token: str) -> Any | None:
    """The device that the token is of: the app, or the recovery codes, of which it is then used up. None: it is wrong.

    After each wrong token the device takes no other for a while, and each time for twice as long.
    """
    device = _meant(user, token)
    return verify_token(user, device.persistent_id, _plain(token)) if device else None


def blocked_until(user: AbstractBaseUser, token: str) -> datetime | None:
    """When the next token is looked at, after a wrong one."""
    device = _meant(user, token)
    allowed, why = device.verify_is_allowed() if device else (True, {})
    return None if allowed else why["locked_until"]


def new_codes(user: AbstractBaseUser) -> list[str]:
    """Recovery codes; those from before no longer work."""
    with transaction.atomic():
        device, _ = StaticDevice.objects.get_or_create(user=user, defaults={"name": "recovery codes"})
        device.token_set.all().delete()
        codes = [StaticToken.random_token() for _ in range(CODES)]
        StaticToken.objects.bulk_create(StaticToken(device=device, token=code) for code in codes)
    return codes


def codes_left(user: AbstractBaseUser) -> int:
    return int(StaticToken.objects.filter(device__user=user).count())


def forget(user: AbstractBaseUser) -> None:
    """Turn it off: from now on the password is enough."""
    for model in (TOTPDevice, StaticDevice):
        for device in model.objects.filter(user=user):
            device.delete()  # one by one, so that the audit log has it


def qr_code(device: TOTPDevice) -> str:
    """The device's secret as a picture (SVG) that an app reads; made here, because it is a secret."""
    return str(segno.make(device.config_url, error="m").svg_inline(scale=5, border=2, dark="#000", light="#fff"))


def secret_of(device: TOTPDevice) -> str:
    """The same to type in, in groups of four."""
    text = b32encode(device.bin_key).decode().rstrip("=")
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def _plain(token: str) -> str:
    return "".join(token.split()).lower()


def _meant(user: AbstractBaseUser, token: str) -> Any | None:
    """Six digits are of the app, anything else is a recovery code: a wrong one of these must not block the other."""
    if re.fullmatch(r"[0-9]{6}", _plain(token)):
        return device_of(user)
    return StaticDevice.objects.filter(user=user, confirmed=True).first()
