"""Any sender that shows a token, in a header or in the address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from events.sources import adapters
from events.sources.base import Call, check_authorization, check_same
from events.sources.mapped import Mapped


@adapters.register("token")
class Token(Mapped):
    """Any other sender that shows a token, in a header or in the address."""

    secret: ClassVar[str] = "The token."

    header: str = Field(
        "",
        title="Header",
        description="Which header is the token, for example X-Token. Empty: Authorization, as Bearer.",
    )
    parameter: str = Field(
        "", title="Parameter", description="Where the address holds it instead: token, for ?token=… Empty: a header."
    )

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        if self.parameter:
            given = [call.query[self.parameter]] if self.parameter in call.query else []
            check_same(given, secrets, f"The address must hold {self.parameter}= and the source's secret.")
        elif self.header:
            check_same([call.header(self.header.lower())], secrets, f"{self.header} is not the source's secret.")
        else:
            check_authorization(call, secrets)

    def headers_of(self, call: Call) -> dict[str, str]:
        kept = super().headers_of(call)
        kept.pop(self.header.lower(), None)
        return kept
