"""Who is calling: an API key, which stands for a source."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from events.catalogue import Key, key_of
from events.models import ApiKey


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <api key>`. A request's `user` and `auth` are the Key. Revoking works within a second."""

    def authenticate(self, request: Request) -> tuple[Key, Key] | None:
        key = key_in(request.META.get("HTTP_AUTHORIZATION", ""))
        return (key, key) if key else None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="carillon"'


def key_in(authorization: str) -> Key | None:
    """The key that the header names; None without a header. Raises AuthenticationFailed when it is none of ours."""
    scheme, _, given = authorization.partition(" ")
    if not scheme:
        return None
    if scheme.lower() != "bearer" or not given.strip():
        raise AuthenticationFailed("Send the API key as `Authorization: Bearer <api key>`.")
    key = key_of(ApiKey.digest_of(given.strip()))
    if key is None:
        raise AuthenticationFailed("This API key is unknown, expired or revoked, or its source is disabled.")
    return key
