"""What stands in for SQS and SNS: Moto as a WSGI application."""

from __future__ import annotations

from threading import Lock
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

_moto = DomainDispatcherApplication(create_backend_app)
_one_at_a_time = Lock()


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    """Calls one after the other, but for those that may wait for a message.

    A deletion replaces the list of a queue's messages, and loses what another thread adds to the old one meanwhile.
    """
    if environ.get("HTTP_X_AMZ_TARGET", "").endswith(".ReceiveMessage"):
        return _moto(environ, start_response)
    with _one_at_a_time:
        return _moto(environ, start_response)
