"""AWS SNS, subscribed by HTTPS (https://docs.aws.amazon.com/sns/latest/dg/sns-http-https-endpoint-as-subscriber.html).

SNS signs with a private key, and a message says where the certificate is. Anybody can have SNS sign a message of a
topic of theirs, and can write any address into a forged one: so a message is believed only when its topic is one of the
source's, its time is near, the address is Amazon's own in the topic's region, and the signature holds.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import ClassVar, Final

import aiohttp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field
from yarl import URL

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import Adapter, Call, Json, Refused, TypeDoc, check_time, first_text, moment, with_fields
from project import http
from project.api import BadRequest, Unavailable, load
from project.durations import Duration

OWN_TYPE: Final = "sns.notification"
TIME_LIMIT: Final = 5.0  # seconds that a request to Amazon may take
TRY_AGAIN: Final = 20  # seconds; SNS tries again after as many
MOST_KEPT: Final = 50  # certificates; there is one for each region, changed once a year

_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {"1": hashes.SHA1(), "2": hashes.SHA256()}
_SIGNED: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_NO_NEWS: Final = ("Type", "Signature", "SignatureVersion", "SigningCertURL", "UnsubscribeURL", "Token")

certificates: dict[str, bytes] = {}  # PEM by address
_asking = threading.BoundedSemaphore(2)  # who forges messages must not have all of our threads wait for Amazon


@adapters.register("sns")
class Sns(Adapter):
    """Topics of Amazon SNS; a subscription that is made is confirmed by itself."""

    secret: ClassVar[str] = ""
    types: ClassVar[Mapping[str, TypeDoc]] = {
        OWN_TYPE: TypeDoc(
            "A message was published to a topic.", with_fields("TopicArn Message", TopicArn={"type": "string"})
        )
    }
    keeps: ClassVar[tuple[str, ...]] = ("x-amz-sns-",)

    topics: list[str] = Field(
        title="Topics",
        description="The ARNs of the topics that are believed, one a line: anybody can sign for a topic of their own.",
        min_length=1,
    )
    type: str = Field(
        "",
        title="Event type",
        description="For messages that are JSON: the event type whose data they are. Empty: sns.notification, whose "
        "data is the notification with its message.",
    )
    tolerance: Duration = Field(
        timedelta(hours=2), title="Tolerance", description="How old a message may be: SNS tries again for an hour."
    )

    def check(self) -> Iterable[tuple[str, str]]:
        for arn in self.topics:
            if not arn.startswith("arn:aws") or arn.count(":") != 5:
                yield "topics", f"{arn} is no ARN of a topic, such as arn:aws:sns:eu-west-1:123456789012:orders"

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        message = call.object
        topic, url = first_text(message, "TopicArn"), first_text(message, "SigningCertURL")
        if topic not in self.topics:
            raise Refused("TopicArn is none of the source's topics.")
        check_time(first_text(message, "Timestamp"), call, self.tolerance)
        if not is_amazons(url, topic) or not URL(url).path.endswith(".pem"):
            raise Refused("SigningCertURL is not an address of Amazon SNS in the topic's region.")
        certificate = _certificate(url)
        if not certificate.not_valid_before_utc <= call.at <= certificate.not_valid_after_utc:
            raise Refused("The certificate at SigningCertURL has expired.")
        _check_signature(message, certificate)

    def answer(self, call: Call) -> Json | None:
        message = call.object
        match message["Type"]:
            case "SubscriptionConfirmation":
                _confirm(first_text(message, "SubscribeURL"), message["TopicArn"])
                return {"subscribed": message["TopicArn"]}
            case "UnsubscribeConfirmation":
                return {"unsubscribed": message["TopicArn"]}
        return None

    def translate(self, call: Call) -> list[Incoming]:
        message = call.object
        subject = first_text(message, "Subject") or message["TopicArn"].rpartition(":")[2]
        content = _as_json(message["Message"])
        event = Incoming(self.type, content, message["MessageId"], subject=subject, time=moment(message["Timestamp"]))
        if not self.type:
            event.type = OWN_TYPE
            event.data = {name: value for name, value in message.items() if name not in _NO_NEWS} | {"Message": content}
        return [event]


def is_amazons(url: str, topic: str) -> bool:
    """Whether the address is one of SNS itself, in the region of the topic.

    >>> is_amazons("https://sns.eu-west-1.amazonaws.com/x.pem", "arn:aws:sns:eu-west-1:123456789012:orders")
    True
    >>> is_amazons("https://sns.eu-west-1.amazonaws.com.example.com/x.pem", "arn:aws:sns:eu-west-1:123456789012:orders")
    False
    """
    parts = topic.split(":")
    if len(parts) != 6:
        return False
    try:
        parsed = URL(url)
        suffix = "amazonaws.com.cn" if parts[1] == "aws-cn" else "amazonaws.com"
        wanted = (f"sns.{parts[3]}.{suffix}", "https", 443, None, None)
        return (parsed.host, parsed.scheme, parsed.port, parsed.user, parsed.password) == wanted
    except ValueError:
        return False


def _check_signature(message: Json, certificate: x509.Certificate) -> None:
    key, algorithm = certificate.public_key(), _HASHES.get(first_text(message, "SignatureVersion"))
    names = _SIGNED.get(first_text(message, "Type"))
    if algorithm is None or names is None or not isinstance(key, rsa.RSAPublicKey):
        raise Refused("Type or SignatureVersion is none that SNS signs.")
    signed = "".join(f"{name}\n{message[name]}\n" for name in names if message.get(name) is not None)
    try:
        signature = base64.b64decode(first_text(message, "Signature"), validate=True)
        key.verify(signature, signed.encode(errors="replace"), padding.PKCS1v15(), algorithm)
    except (InvalidSignature, binascii.Error) as error:
        raise Refused("The signature does not hold for this message.") from error


def _certificate(url: str) -> x509.Certificate:
    pem = certificates.get(url)
    try:
        found = x509.load_pem_x509_certificate(pem or _get(url))
    except ValueError as error:
        raise Refused("There is no certificate at SigningCertURL.") from error
    if pem is None and len(certificates) < MOST_KEPT:
        certificates[url] = found.public_bytes(Encoding.PEM)
    return found


def _confirm(url: str, topic: str) -> None:
    if not is_amazons(url, topic):
        raise BadRequest("SubscribeURL is not an address of Amazon SNS in the topic's region.")
    _get(url)


def _get(url: str) -> bytes:
    """What is at the address, through the guard of outgoing calls. Raises Unavailable, so that SNS tries again."""
    if not _asking.acquire(blocking=False):
        raise Unavailable("Too many messages have to be looked up at Amazon just now.", retry_after=TRY_AGAIN)
    try:
        reply = asyncio.run(_ask(url))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"Amazon SNS cannot be reached from here: {error}.", retry_after=TRY_AGAIN) from error
    finally:
        _asking.release()
    if reply.status != 200:
        raise Unavailable(f"Amazon SNS answered {reply.status} to what has to be looked up.", retry_after=TRY_AGAIN)
    return reply.text.encode()


async def _ask(url: str) -> http.Reply:
    async with http.guarded_session(time_limit=TIME_LIMIT) as session:
        return await http.send(session, "GET", url, keep=16_384)


def _as_json(text: str) -> Json:
    """What a message says where it is JSON that can be kept; else the text itself."""
    try:
        return load(text.encode())
    except BadRequest:
        return text
