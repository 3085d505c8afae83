"""AWS, for SQS and SNS: a client of boto3, or calls that cost less."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, ClassVar
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from pydantic import Field, SecretStr

from project.brokers.connection import Connection
from project.brokers.urls import problems_of


class AwsConnection(Connection):
    """A region, and who we are there; without a key, boto3 looks where it always does (variables, profile, role)."""

    library: ClassVar[str] = "boto3"

    region: str = Field("", title="Region", description="For example eu-central-1. Empty: as boto3 finds it.")
    endpoint: str = Field(
        "", title="Endpoint", description="Only for what is not AWS itself, for example http://localstack:4566."
    )
    access_key: str = Field("", title="Access key ID", description="Empty: as boto3 finds it.")
    secret_key: SecretStr | None = Field(
        None, title="Secret access key", description="Keep it in a variable: ${AWS_SECRET_ACCESS_KEY}."
    )

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if self.endpoint:
            yield from problems_of("endpoint", self.endpoint, "http", "https")
        if bool(self.access_key) != bool(self.secret_key):
            yield "access_key", "the two halves of a key come together or not at all"

    def client(self, service: str, *, read_timeout: float = 30, connections: int = 10) -> Any:
        """A client of "sqs" or "sns"; threads may share it.

        Raises botocore.exceptions.BotoCoreError where region or credentials are missing.
        """
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            region_name=self.region or None,
            endpoint_url=self.endpoint or None,
            aws_access_key_id=self.access_key or None,
            aws_secret_access_key=self.secret_key.get_secret_value() if self.secret_key else None,
            config=Config(
                connect_timeout=5,
                read_timeout=read_timeout,
                max_pool_connections=connections,
                retries={"total_max_attempts": 1},  # who asks tries again by its own rules
            ),
        )

    async def calls(self, service: str, target: str, url: str, *, time_limit: float = 30) -> AwsCalls:
        """Ready to call the service at `endpoint`, else where `url` leads; `target` is what its protocol calls it.

        Raises botocore.exceptions.BotoCoreError where region or credentials are missing.
        """
        signer = await asyncio.to_thread(Signer, self, service)  # may ask the machine who it is
        return AwsCalls(signer, target, urljoin(self.endpoint or url, "/"), time_limit)


class CallRefused(Exception):
    """AWS' answer, in its words."""


class Signer:
    """Who we are, found as boto3 finds it; and what a call is signed with."""

    def __init__(self, connection: AwsConnection, service: str) -> None:
        import botocore.session
        from botocore.exceptions import NoCredentialsError, NoRegionError

        session = botocore.session.Session()
        if connection.secret_key:
            session.set_credentials(connection.access_key, connection.secret_key.get_secret_value())
        self._service = service
        self._region = connection.region or session.get_config_variable("region")
        self._credentials = session.get_credentials()
        self.authorities: str | None = session.get_config_variable("ca_bundle")
        if not self._region:
            raise NoRegionError
        if not self._credentials:
            raise NoCredentialsError

    async def headers(self, url: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        """These, and those of the signature."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import RefreshableCredentials

        credentials = self._credentials
        if isinstance(credentials, RefreshableCredentials) and credentials.refresh_needed():
            await asyncio.to_thread(credentials.get_frozen_credentials)  # by a call of its own
        request = AWSRequest("POST", url, headers, body)
        SigV4Auth(credentials.get_frozen_credentials(), self._service, self._region).add_auth(request)
        return dict(request.headers)


class AwsCalls:
    """Calls by AWS' JSON protocol (https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html), signed by botocore.

    A call costs a third of what it costs boto3, and no thread: docs/performance.md.
    """

    def __init__(self, signer: Signer, target: str, url: str, time_limit: float) -> None:
        self._signer, self._target, self._url = signer, target, url
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=signer.authorities)),
            timeout=aiohttp.ClientTimeout(total=time_limit),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(url),
        )

    async def call(self, operation: str, **given: Any) -> dict[str, Any]:
        """What the operation returns. Raises CallRefused, aiohttp.ClientError or TimeoutError."""
        body = orjson.dumps(given)
        named = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"{self._target}.{operation}"}
        headers = await self._signer.headers(self._url, body, named)
        async with self._http.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
            told = await answer.read()
        if answer.status != 200:
            raise CallRefused(f"{operation} was refused: {_why(answer.status, told)}")
        found: dict[str, Any] = orjson.loads(told)
        return found

    async def close(self) -> None:
        await self._http.close()


def _proxy(url: str) -> str | None:
    """As the environment says, asked once: aiohttp, which can ask, does it for each call, and looks for a netrc."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _why(status: int, told: bytes) -> str:
    """
    >>> _why(400, b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "There is no such queue."}')
    'QueueDoesNotExist: There is no such queue.'
    >>> _why(502, b"<html>Bad gateway</html>")
    'status 502: <html>Bad gateway</html>'
    """
    try:
        found = orjson.loads(told)
        code = str(found["__type"]).rpartition("#")[2]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return f"status {status}: {told[:200].decode(errors='replace')}"
    return f"{code}: {found.get('message') or found.get('Message') or 'without a reason'}"
