"""Who is calling: an API key, which stands for a source."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from events.catalogue import Key, key_of
from events.models import ApiKey, Scope
from project.api import Forbidden


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


class HasScope(BasePermission):
    """The key carries the scope that the view names for the method: `scopes = {"GET": Scope.EVENTS_READ}`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, Key):
            return False  # becomes 401
        # HEAD is answered by what answers GET.
        needed: Scope | None = getattr(view, "scopes", {}).get("GET" if request.method == "HEAD" else request.method)
        if needed is None or needed in request.auth.scopes:
            return True
        raise Forbidden(
            f"This API key lacks the scope {needed.value}; it has: {', '.join(sorted(request.auth.scopes)) or 'none'}."
        )
