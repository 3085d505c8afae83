"""The base of the settings by which a broker is reached."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from importlib.util import find_spec
from typing import ClassVar

from pydantic import Field

from project.plugin import Plugin


class Connection(Plugin):
    """How a broker is reached, by the client library `library`.

    Clients are optional (requirements-brokers.txt), and each takes some megabytes: import them where they connect.
    """

    library: ClassVar[str]

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if find_spec(self.library) is None:
            yield "", f"{self.library} is not installed here: pip install -r requirements-brokers.txt"


class Tls(Connection):
    """Whether the connection is encrypted, and whom it trusts."""

    tls: bool = Field(False, title="TLS", description="Encrypt the connection and check the broker's certificate.")
    authority: str = Field(
        "",
        title="Certificate authority",
        description="PEM text of whoever signed the broker's certificate. Empty: those that the system trusts.",
    )

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if self.authority and not self.tls:
            yield "authority", "is of no use without tls: true"
            return
        try:
            self.context()
        except ssl.SSLError:
            yield "authority", "must be a certificate as PEM text, from -----BEGIN CERTIFICATE----- on"

    def context(self) -> ssl.SSLContext | None:
        """None without TLS. Raises ssl.SSLError when `authority` is no certificate."""
        return ssl.create_default_context(cadata=self.authority or None) if self.tls else None
