"""The base of all adapters of webhook sources, and its manual.

An adapter is one module of this package: a class whose fields are a source's settings, and which does two things with a
call to `/hooks/<source>`: it verifies it over the raw body, and translates it into events. Nothing else has to know it:
the admin's form, `apply` and the hooks find it by its name.

    @adapters.register("acme")
    class Acme(Adapter):
        '''Parcels, by Acme (https://acme.example/docs/webhooks).'''

        secret: ClassVar[str] = "The signing key that Acme shows under Account, Webhooks."
        types: ClassVar[Mapping[str, TypeDoc]] = {
            "acme.parcel": TypeDoc("A parcel has moved.", {"type": "object", "required": ["parcel", "place"]}),
        }

        def verify(self, call: Call, secrets: Sequence[str]) -> None:
            check_signature([call.header("acme-signature")], call.body, map(str.encode, secrets))

        def translate(self, call: Call) -> list[Incoming]:
            parcel = call.object
            return [Incoming("acme.parcel", parcel, id=call.header("acme-delivery"), subject=parcel["parcel"])]

The fields are the settings. Titles and descriptions are the form's labels and help texts; unknown settings are refused;
`${NAME}` has been replaced when the class is filled. The secret is not among them: every source has one, and a previous
one that is valid, too, while the far side changes over. `secret` says where the vendor shows it.

`verify` is given the bytes as they came, before anything has read them, and both secrets. It raises Refused, which
becomes 401, unless the call is the vendor's; it compares in constant time (`check_signature`, `check_same`), and where
the vendor signs a time, it holds that against a tolerance (`check_time`).

`translate` is called for verified calls only. `data` of the events is what the vendor documents, changed as little as
possible; the call itself is kept beside it (`Original`). The `id` is the vendor's for the delivery, the same when it
delivers again; left out, it is made of a hash of the body. A missing key or a value of another type may be left to
Python's own errors: they become 400.

`types` are the event types that come with the adapter: they are made together with a source of it, those that are there
already stay as they are. Where a vendor may send types that are not listed, `family` says how they begin; such a type
is made when the first event of it comes in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, Final, TypeAlias
from urllib.parse import parse_qs

import orjson

from events.cloudevents import Incoming
from project.api import BadRequest, Unauthorized, load
from project.plugin import Plugin
from project.timestamps import rfc3339

Json: TypeAlias = Any

MOST_SIGNATURES: Final = 10  # of those that a call brings; a sender that changes its key brings two


_PASSWORDS: Final = ("authorization", "cookie", "token", "secret", "password", "api-key", "apikey")


class Refused(Unauthorized):
    """The call is not the vendor's, or nobody can tell."""

    challenge = 'Signature realm="carillon"'


@dataclass(frozen=True)
class TypeDoc:
    """An event type that an adapter brings. The schema asks for what events are known by, and lets the rest pass."""

    description: str
    schema: Json = True


@dataclass(frozen=True)
class Call:
    """A webhook call as it came in."""

    body: bytes
    headers: Mapping[str, str]  # their names in small letters
    query: Mapping[str, str]
    at: datetime

    def header(self, name: str) -> str:
        """Its value. Raises Refused when it is missing or empty."""
        value = self.headers.get(name, "").strip()
        if not value:
            raise Refused(f"The header {name} is missing.")
        return value

    @cached_property
    def json(self) -> Json:
        """The body, also where a form carries the JSON as its field `payload`. Raises BadRequest."""
        return load(self.form.get("payload", "").encode() if self.is_form else self.body)

    @property
    def object(self) -> dict[str, Json]:
        """The body, which is a JSON object. Raises BadRequest."""
        if not isinstance(self.json, dict):
            raise BadRequest("The body is not a JSON object.")
        return self.json

    @property
    def content(self) -> Json:
        """What the body says, whatever it is written in. Raises BadRequest."""
        return self.form if self.is_form and "payload" not in self.form else self.json

    @property
    def is_form(self) -> bool:
        return self.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded")

    @cached_property
    def form(self) -> dict[str, str]:
        """The fields of a form, the first where one comes twice. Raises BadRequest."""
        try:
            fields = parse_qs(self.body.decode(), keep_blank_values=True, max_num_fields=1000)
        except ValueError as error:
            raise BadRequest(f"The body is not a form: {error}.") from error
        return {name: values[0] for name, values in fields.items()}


class Adapter(Plugin):
    """How the webhooks of one vendor are verified and translated. Subclasses override `verify` and `translate`."""

    webhooks: ClassVar[bool] = True
    """Whether its sources are called at `/hooks/<source>`."""

    secret: ClassVar[str]
    """What the secret of such a source is and where the vendor shows it; empty: it needs none."""

    types: ClassVar[Mapping[str, TypeDoc]] = {}
    """The event types that it brings."""

    family: ClassVar[str] = ""
    """How types begin that it may send although they are not listed; empty: there are none."""

    common: ClassVar[Json] = True
    """The schema of types that are not listed."""

    keeps: ClassVar[tuple[str, ...]] = ()
    """The headers that are kept with the original, by how their names begin. What looks like a password never is."""

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        """Raise Refused unless the call is the vendor's, by one of the secrets."""
        raise TypeError(f"{type(self).__name__} does not override verify")

    def answer(self, call: Call) -> Json | None:
        """What a verified call is answered that brings no event: a handshake, a ping. None: it brings some."""
        return None

    def translate(self, call: Call) -> Sequence[Incoming]:
        """The events of a verified call."""
        raise TypeError(f"{type(self).__name__} does not override translate")

    def headers_of(self, call: Call) -> dict[str, str]:
        """The call's headers that are kept."""
        kept = ("content-type", "user-agent", *self.keeps)
        return {name: value for name, value in without_passwords(call.headers).items() if name.startswith(kept)}

    def check_secret(self, secret: str) -> None:
        """Raise ValueError for what cannot be a secret of this vendor's."""

    @classmethod
    def described(cls, type_name: str) -> TypeDoc | None:
        """The type of this name that the adapter brings, listed or not; None: it is none of its."""
        if type_name in cls.types:
            return cls.types[type_name]
        return TypeDoc("", cls.common) if cls.family and type_name.startswith(cls.family) else None


# --- to verify by ----------------------------------------------------------------------------------------------------


def check_signature(
    given: Sequence[str],
    content: bytes,
    keys: Iterable[bytes],
    *,
    algorithm: str = "sha256",
    encode: Callable[[bytes], str] = bytes.hex,
) -> None:
    """Raise Refused unless one of the given signatures is the content's HMAC with one of the keys."""
    check_same(
        given,
        [encode(hmac.digest(key, content, algorithm)) for key in keys],
        "The signature does not hold for this body and the source's secret.",
    )


def check_same(given: Sequence[str], right: Iterable[str], otherwise: str) -> None:
    """Raise Refused, which says `otherwise`, unless one of the given texts is one of the right ones; constant time."""
    right = list(right)
    found = False
    for text in given[:MOST_SIGNATURES]:
        for one in right:
            found |= hmac.compare_digest(text.encode(errors="replace"), one.encode())
    if not found:
        raise Refused(otherwise)


def check_authorization(call: Call, secrets: Iterable[str], *, user: str = "") -> None:
    """Raise Refused unless the call's Authorization is one of the secrets: of this user (Basic), or alone (Bearer)."""
    scheme, _, rest = call.headers.get("authorization", "").partition(" ")
    wanted, right = "Bearer", list(secrets)
    if user:
        wanted, right = "Basic", [base64.b64encode(f"{user}:{secret}".encode()).decode() for secret in right]
    given = [rest.strip()] if scheme.lower() == wanted.lower() else []
    try:
        check_same(given, right, f"Authorization must be {wanted} with the source's secret.")
    except Refused as error:
        error.challenge = f'{wanted} realm="carillon"'
        raise


def check_time(stamp: str, call: Call, tolerance: timedelta) -> None:
    """Raise Refused unless the time that was signed (as `moment` reads it) is no further from now than `tolerance`."""
    signed = moment(int(stamp) if stamp.isdecimal() and len(stamp) <= 13 else stamp)
    if signed is None:
        raise Refused(f"The time {stamp[:50]!r} cannot be read.")
    if abs(call.at - signed) > tolerance:
        raise Refused(f"The call was signed at {signed:%Y-%m-%dT%H:%M:%SZ}, which is too far from now; is it a replay?")


# --- to translate by -------------------------------------------------------------------------------------------------


def moment(value: Json) -> datetime | None:
    """A time as vendors write it: RFC 3339, or seconds or milliseconds since 1970; None when it is neither.

    >>> moment(1531420618)
    datetime.datetime(2018, 7, 12, 18, 36, 58, tzinfo=datetime.timezone.utc)
    >>> moment(1531420618000) == moment("2018-07-12T18:36:58Z")
    True
    >>> moment("yesterday")
    """
    if isinstance(value, str):
        return rfc3339(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return datetime.fromtimestamp(value / 1000 if value >= 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def field(data: Json, path: str) -> Json:
    """What is at the path; None when there is nothing.

    >>> field({"repository": {"full_name": "octo/repo"}}, "repository.full_name")
    'octo/repo'
    >>> field({"repository": None}, "repository.full_name")
    """
    for name in path.split("."):
        data = data.get(name) if isinstance(data, dict) else None
    return data


def first_text(data: Json, *paths: str) -> str:
    """The first of these fields that holds text (a number counts, too), or nothing."""
    found = (field(data, path) for path in paths)
    return next((str(each) for each in found if each and isinstance(each, str | int | float)), "")


def digest(value: Json) -> str:
    """A hash of the JSON value that does not depend on how it was written: an id where the vendor sends none."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def without_passwords(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that may be kept, by their names in small letters."""
    return {name: value for name, value in headers.items() if not any(word in name for word in _PASSWORDS)}


def with_fields(required: str = "", **properties: Json) -> dict[str, Json]:
    """A schema: an object with these fields, and any others."""
    return {"type": "object", "required": required.split(), "properties": properties}
