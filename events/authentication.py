"""Who is calling: an API key, which stands for a source."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from events.catalogue import Key, key_of
from events.models import ApiKey


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <api key>`. A request's `user` and `auth` are the Key. Revoking works within a second."""

    def authenticate(self, request: Request) -> tuple[Key, Key] | None:
        scheme, _, given = get_authorization_header(request).decode("latin-1").partition(" ")
        if not scheme:
            return None
        if scheme.lower() != "bearer" or not given.strip():
            raise AuthenticationFailed("Send the API key as `Authorization: Bearer <api key>`.")
        key = key_of(ApiKey.digest_of(given.strip()))
        if key is None:
            raise AuthenticationFailed("This API key is unknown, expired or revoked, or its source is disabled.")
        return key, key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="carillon"'
