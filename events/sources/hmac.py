"""Any sender that signs its calls with a shared secret (HMAC), as settings describe it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import ClassVar, Final, Literal

from pydantic import Field

from events.sources import adapters
from events.sources.base import Call, check_signature, check_time
from events.sources.mapped import Mapped
from project.durations import Duration

_PART: Final = re.compile(r"\{([A-Za-z0-9-]+)\}")
_ENCODINGS: Final[dict[str, Callable[[bytes], str]]] = {
    "hex": bytes.hex,
    "base64": lambda signature: base64.b64encode(signature).decode(),
}
_SECRETS: Final[dict[str, Callable[[str], bytes]]] = {
    "text": str.encode,
    "hex": bytes.fromhex,
    "base64": lambda secret: base64.b64decode(secret, validate=True),
}


@adapters.register("hmac")
class Hmac(Mapped):
    """Any other sender that signs its calls with a shared secret; header, algorithm and the rest are settings."""

    secret: ClassVar[str] = "The key that the sender signs with."

    header: str = Field(title="Signature header", description="For example X-Signature.")
    algorithm: Literal["sha256", "sha384", "sha512", "sha1"] = Field(
        "sha256", title="Algorithm", description="The hash of the HMAC."
    )
    encoding: Literal["hex", "base64"] = Field("hex", title="Encoding", description="How the signature is written.")
    prefix: str = Field("", title="Prefix", description="What stands before the signature: sha256=. Empty: nothing.")
    signs: str = Field(
        "{body}",
        title="What is signed",
        description="{body} and, in the same way, headers: {x-timestamp}.{body}.",
    )
    timestamp_header: str = Field(
        "",
        title="Timestamp header",
        description="The time of the call, in seconds or as RFC 3339; it has to be signed, too. Empty: none.",
    )
    tolerance: Duration = Field(
        timedelta(minutes=5), title="Tolerance", description="How far that time may be from now."
    )
    secret_encoding: Literal["text", "hex", "base64"] = Field(
        "text", title="Encoding of the secret", description="What the secret is written in: as it is, or encoded."
    )

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        names = [name.lower() for name in _PART.findall(self.signs)]
        if "body" not in names:
            yield "signs", "must contain {body}"
        if self.timestamp_header and self.timestamp_header.lower() not in names:
            yield "signs", f"must contain {{{self.timestamp_header}}}: a time that is not signed proves nothing"

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        given = [
            part.removeprefix(self.prefix)
            for part in re.split(r"[,\s]+", call.header(self.header.lower()))
            if part.startswith(self.prefix)
        ]
        encode = _ENCODINGS[self.encoding]
        check_signature(given, self._signed(call), map(self._key, secrets), algorithm=self.algorithm, encode=encode)
        if self.timestamp_header:
            check_time(call.header(self.timestamp_header.lower()), call, self.tolerance)

    def _signed(self, call: Call) -> bytes:
        parts = _PART.split(self.signs)  # text, name, text, name … text
        names = {index: name.lower() for index, name in enumerate(parts) if index % 2}
        return b"".join(
            text.encode() if index not in names else call.body if names[index] == "body" else _bytes(call, names[index])
            for index, text in enumerate(parts)
        )

    def check_secret(self, secret: str) -> None:
        try:
            self._key(secret)
        except ValueError as error:
            raise ValueError(f"is not {self.secret_encoding}: {error}") from error

    def _key(self, secret: str) -> bytes:
        return _SECRETS[self.secret_encoding](secret)


def _bytes(call: Call, header: str) -> bytes:
    return call.header(header).encode(errors="replace")
