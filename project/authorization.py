"""What a caller may do: the permission that asks for a scope."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol, cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from project.api import Forbidden
from project.scopes import Scope


class Caller(Protocol):
    """What a request's `auth` is, whoever authenticates it (DEFAULT_AUTHENTICATION_CLASSES)."""

    source: str  # for example /shop
    scopes: Collection[str]


def caller_of(request: Request) -> str:
    """Who asks, for what is kept of it: the API (/shop)."""
    return f"the API ({cast(Caller, request.auth).source})"


class HasScope(BasePermission):
    """The caller has the scope that the view names for the method: `scopes = {"GET": Scope.EVENTS_READ}`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        held: Collection[str] | None = getattr(request.auth, "scopes", None)
        if held is None:
            return False  # becomes 401
        # HEAD is answered by what answers GET.
        needed: Scope | None = getattr(view, "scopes", {}).get("GET" if request.method == "HEAD" else request.method)
        if needed is None or needed in held:
            return True
        raise Forbidden(f"This API key lacks the scope {needed.value}; it has: {', '.join(sorted(held)) or 'none'}.")
