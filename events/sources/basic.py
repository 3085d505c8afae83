"""Any sender that shows a user name and a password (RFC 7617)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from events.sources import adapters
from events.sources.base import Call, check_authorization
from events.sources.mapped import Mapped


@adapters.register("basic")
class Basic(Mapped):
    """Any other sender that shows a user name and a password."""

    secret: ClassVar[str] = "The password."

    user: str = Field(title="User name", description="What stands before the colon.", min_length=1)

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        check_authorization(call, secrets, user=self.user)
