"""Amazon SNS as it signs: with a key of our own, whose certificate is where SNS would have it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from events.sources.sns import certificates

TOPIC: Final = "arn:aws:sns:us-east-2:295079676684:publish-and-verify"
URL: Final = "https://sns.us-east-2.amazonaws.com/SimpleNotificationService-of-the-tests.pem"


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key().public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=30))
        .sign(key(), hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def signed(body: bytes, now: datetime) -> bytes:
    """The message with this time and our signature; what is no message is left alone."""
    certificates[URL] = certificate()  # as if it had been asked for before
    try:
        message = json.loads(body)
    except ValueError:
        return body
    return sign(message, now) if isinstance(message, dict) and "Type" in message else body


def sign(message: dict[str, Any], now: datetime, version: str = "2") -> bytes:
    """By the documentation: name and value of these fields, each on a line, in the order of the alphabet."""
    stamp = f"{now:%Y-%m-%dT%H:%M:%S}.000Z"
    message = {**message, "Timestamp": stamp, "SigningCertURL": URL, "SignatureVersion": version}
    fields = {"Message", "MessageId", "SubscribeURL", "Subject", "Timestamp", "Token", "TopicArn", "Type"}
    if message["Type"] == "Notification":
        fields -= {"SubscribeURL", "Token"}
    text = "".join(f"{name}\n{message[name]}\n" for name in sorted(fields & message.keys()))
    algorithm = hashes.SHA1() if version == "1" else hashes.SHA256()
    signature = key().sign(text.encode(), padding.PKCS1v15(), algorithm)
    return json.dumps({**message, "Signature": base64.b64encode(signature).decode()}).encode()
