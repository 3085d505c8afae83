"""Sources that take no webhooks."""

from __future__ import annotations

from typing import ClassVar

from events.sources import adapters
from events.sources.base import Adapter


@adapters.register("api")
class Api(Adapter):
    """Programs that send events by the API, with a key of the source."""

    webhooks: ClassVar[bool] = False
    secret: ClassVar[str] = ""
