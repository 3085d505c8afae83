"""Flower behind the admin's login: who is there, what they may do, and how they get in.

Flower knows no roles, only a login of its own or none, so its handlers are made anew with `Access` before them. Who has
no ticket is sent to the admin (project/flower_door.py), logs in there if need be, and comes back with one; Flower needs
neither the database nor to be at the same address. The ticket is kept in a cookie:

- a page is shown if it is fresh, else the browser fetches another, which nobody notices;
- what a page that is open goes on asking is answered for half a day;
- what acts needs a fresh one of somebody who may act.

Programs send FLOWER_BASIC_AUTH, if that is set, and may do everything.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from base64 import b64decode
from dataclasses import asdict
from typing import Any, Final

import tornado.web
from django.conf import settings
from django.utils.http import urlencode
from flower import urls
from flower.api import BaseApiHandler
from flower.views import BaseHandler
from flower.views.auth import LoginHandler, is_safe_redirect
from flower.views.monitor import Metrics

from project import tickets
from project.tickets import Ticket

FRESH: Final = 10 * 60
"""Seconds after which a role that was taken away is noticed."""
KEPT: Final = 12 * 60 * 60
"""Seconds for which an open page goes on."""
READS: Final = ("GET", "HEAD", "OPTIONS")
COOKIE: Final = "user"  # the name of Flower's own, which its log-out removes


class Access:
    """What stands before each of Flower's handlers."""

    def get_current_user(self: Any) -> Ticket | None:
        if authorization := self.request.headers.get("Authorization"):
            return _program(authorization)
        told = json.loads(self.get_secure_cookie(COOKIE, max_age_days=KEPT / 86_400) or "null")
        if told is None or (time.time() - told["at"] > FRESH and self.has_to_be_fresh()):
            return None
        return Ticket(told["user"], told["acts"])

    def has_to_be_fresh(self: Any) -> bool:
        """A page, or something that acts; not what a page asks again and again."""
        asked_by_page = self.request.headers.get("X-Requested-With") == "XMLHttpRequest"
        return not asked_by_page or self.is_act()

    def is_act(self: Any) -> bool:
        return isinstance(self, BaseApiHandler) and self.request.method not in READS

    def prepare(self: Any) -> Any:
        user = self.current_user
        if user is None and isinstance(self, Metrics):  # Flower itself leaves them open
            raise tornado.web.HTTPError(401)
        if user is None and self.is_act():
            raise tornado.web.HTTPError(
                401, "Your login has to be looked at again. Reload this page and try once more."
            )
        if self.is_act() and not user.acts:
            raise tornado.web.HTTPError(403, "Your role may only look. Operators and editors may act.")
        return super().prepare()  # type: ignore[misc]  # of Flower's handler

    def render(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "read_only" in kwargs and self.current_user:  # whether there are buttons
            kwargs["read_only"] = kwargs["read_only"] or not self.current_user.acts
        return super().render(*args, **kwargs)  # type: ignore[misc]


class Login(BaseHandler):  # type: ignore[misc]  # Flower has no types
    """Flower's /login: to the admin for a ticket, and back with it to the page that was asked for."""

    def get(self) -> None:
        state = (self.get_secure_cookie("state") or b"").decode()
        text = self.get_argument("ticket", None)
        if text is None:
            state = state or secrets.token_urlsafe()  # one for all tabs of the browser
            self.set_secure_cookie("state", state, expires_days=None, secure=settings.HTTPS)
            asked = urlencode({"state": state, "next": self.wanted()})
            self.redirect(f"{settings.CARILLON_URL}/admin/flower/?{asked}")
            return
        ticket = tickets.read(text, state)
        if ticket is None:
            raise tornado.web.HTTPError(403, "This ticket is too old, or another browser's. Open Flower again.")
        told = json.dumps({**asdict(ticket), "at": int(time.time())})
        self.set_secure_cookie(COOKIE, told, expires_days=KEPT / 86_400, secure=settings.HTTPS)
        self.redirect(self.wanted())

    def wanted(self) -> str:
        """The page of Flower to go on to."""
        there = self.get_argument("next", "", escape=False)
        return there if is_safe_redirect(there) else f"/{(self.application.options.url_prefix or '').strip('/')}"


def _program(authorization: str) -> Ticket | None:
    """Who sends one of FLOWER_BASIC_AUTH, `user:password`."""
    scheme, _, given = authorization.partition(" ")
    try:
        credentials = b64decode(given, validate=True)
    except ValueError:
        return None
    known = [pair.encode() for pair in settings.FLOWER_BASIC_AUTH.split(",") if ":" in pair]
    if scheme.lower() != "basic" or not any(hmac.compare_digest(pair, credentials) for pair in known):
        return None
    return Ticket(credentials.partition(b":")[0].decode(), acts=True)


def install() -> None:
    """Have every handler of Flower stand behind `Access`. Before Flower makes its application."""
    urls.handlers[:] = [_guarded(handler) for handler in urls.handlers]


def _guarded(handler: Any) -> Any:
    pattern, known, *rest = (
        (handler.regex.pattern, handler.handler_class, handler.kwargs, handler.name)
        if isinstance(handler, tornado.web.url)
        else handler
    )
    if known is LoginHandler:
        return tornado.web.url(pattern, Login)
    if not issubclass(known, BaseHandler):  # static files
        return handler
    return tornado.web.url(pattern, type(known.__name__, (Access, known), {}), *rest)
