"""Outgoing HTTP reaches what it may, says why it does not reach the rest, and reads no more than it keeps."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import aiohttp
import pytest
from aiohttp import web
from pytest_django import Settings

from project.http import AddressRefused, Reply, check_url, guarded_session, send
from project.transport import Transport

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[int]:
    """A server on 127.0.0.1; gives its port."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def hello(request: web.Request) -> web.StreamResponse:
    return web.Response(text=f"hello {request.headers.get('X-Name', 'you')}", headers={"X-Answer": "42"})


def call(handler: Handler, url: str, *, allow: list[str], method: str = "GET", body: bytes | None = None) -> Reply:
    """The reply of a server with this handler to one request; PORT in the url and in `allow` is its port."""

    async def run() -> Reply:
        async with server(handler) as port:
            allowed = [entry.replace("PORT", str(port)) for entry in allow]
            async with guarded_session(allow=allowed) as session:
                return await send(
                    session, method, url.replace("PORT", str(port)), body=body, headers={"X-Name": "ada"}, time_limit=10
                )

    return asyncio.run(run())


@pytest.mark.parametrize("allow", ["127.0.0.1", "127.0.0.0/8", "127.0.0.1:PORT"])
def test_an_allowed_address_is_reached(allow: str) -> None:
    reply = call(hello, "http://127.0.0.1:PORT/", allow=["::1", allow])
    assert (reply.status, reply.text, reply.headers["X-Answer"]) == (200, "hello ada", "42")
    assert reply.ms >= 0


@pytest.mark.parametrize("allow", ["localhost", "LOCALHOST:PORT", "127.0.0.1"])
def test_an_allowed_name_is_reached(allow: str) -> None:
    assert call(hello, "http://localhost:PORT/", allow=[allow]).status == 200


@pytest.mark.parametrize("allow", [[], ["example.com"], ["localhost:1"], ["10.0.0.0/8"]])
def test_a_name_that_leads_to_a_private_address_is_refused_and_told_how_to_allow_it(allow: list[str]) -> None:
    with pytest.raises(
        AddressRefused, match=r'localhost resolves to .*, a loopback address.* add "localhost" to OUTBOUND_ALLOW'
    ):
        call(hello, "http://localhost:PORT/", allow=allow)


INNER = {
    "127.0.0.1": "a loopback address",
    "10.1.2.3": "a private or reserved address",
    "172.16.0.1": "a private or reserved address",
    "192.168.1.1": "a private or reserved address",
    "100.64.0.1": "a private or reserved address",
    "240.0.0.1": "a private or reserved address",
    "255.255.255.255": "a private or reserved address",
    "169.254.1.1": "a link-local address",
    "169.254.169.254": "a cloud metadata address",
    "168.63.129.16": "a cloud metadata address",
    "224.0.0.1": "a multicast address",
    "0.0.0.0": "an unspecified address",
    "[::]": "an unspecified address",
    "[::1]": "a loopback address",
    "[::127.0.0.1]": "a private or reserved address",
    "[fd00:ec2::254]": "a cloud metadata address",
    "[fd00::1]": "a private or reserved address",
    "[fe80::1]": "a link-local address",
    "[fec0::1]": "a link-local address",
    "[ff02::1]": "a multicast address",
    "[::ffff:127.0.0.1]": "an IPv4 address written as IPv6",
    "[64:ff9b::7f00:1]": "a NAT64 address",
    "[2002:7f00:1::]": "a 6to4 address",
    "[2001:0:7f00:1::]": "a Teredo address",
    "[2001:db8::1]": "a private or reserved address",
}


@pytest.mark.parametrize(("host", "reason"), INNER.items(), ids=INNER)
def test_an_inner_address_in_the_url_is_refused(host: str, reason: str) -> None:
    with pytest.raises(AddressRefused, match=f"is {reason}"):
        call(hello, f"http://{host}:PORT/", allow=["localhost"])
    with pytest.raises(AddressRefused, match=f"is {reason}"):
        check_url(f"https://{host}/hooks", allow=[])
    assert check_url(f"https://{host}/hooks", allow=[str(ip_address(host.strip("[]")))])


@pytest.mark.parametrize("host", ["0x7f000001", "0177.0.0.1", "127.1", "2130706433", "localhost."])
def test_another_way_to_write_an_inner_address_does_not_reach_it(host: str) -> None:
    with pytest.raises(aiohttp.ClientError):
        call(hello, f"http://{host}:PORT/", allow=["example.com"])


def test_settings_name_what_is_allowed(settings: Settings) -> None:
    settings.OUTBOUND_ALLOW = []
    with pytest.raises(AddressRefused):
        check_url("http://127.0.0.1/")
    settings.OUTBOUND_ALLOW = ["127.0.0.1"]
    assert check_url("http://127.0.0.1/") == "http://127.0.0.1/"


def test_a_redirect_is_the_answer() -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("http://169.254.169.254/latest/")

    reply = call(redirect, "http://127.0.0.1:PORT/", allow=["127.0.0.1"])
    assert (reply.status, reply.headers["Location"]) == (302, "http://169.254.169.254/latest/")


def test_an_endless_answer_is_read_to_the_kept_length_only() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1000)

    assert call(endless, "http://127.0.0.1:PORT/", allow=["127.0.0.1"]).text == "x" * 2048


def test_an_answer_that_is_not_utf8_is_kept_readable() -> None:
    async def latin(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"caf\xe9")

    assert call(latin, "http://127.0.0.1:PORT/", allow=["127.0.0.1"]).text == "caf�"


def test_a_body_is_sent_as_it_is() -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        return web.Response(body=await request.read(), status=201)

    reply = call(echo, "http://127.0.0.1:PORT/", allow=["127.0.0.1"], method="POST", body=b'{"a": "\xc3\xa4"}')
    assert (reply.status, reply.text) == (201, '{"a": "ä"}')


def test_a_hanging_server_runs_into_the_time_limit() -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(2)
        return web.Response()

    async def run() -> float:
        async with server(hang) as port, guarded_session(allow=["127.0.0.1"]) as session:
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                await send(session, "GET", f"http://127.0.0.1:{port}/", time_limit=0.2)
            return time.monotonic() - started

    assert asyncio.run(run()) < 1.5


def test_what_is_sent_by_a_transport_may_take_as_long_as_its_channel_or_step_allows() -> None:
    async def limit() -> float | None:
        transport = Transport()
        try:
            return transport.http.timeout.total
        finally:
            await transport.close()

    assert not asyncio.run(limit())


def test_connections_are_kept_and_cookies_are_not() -> None:
    seen: list[tuple[object, str | None]] = []

    async def remember(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        seen.append((request.transport.get_extra_info("peername"), request.headers.get("Cookie")))
        response = web.Response(text="ok")
        response.set_cookie("session", "1")
        return response

    async def run() -> None:
        async with server(remember) as port, guarded_session(allow=["localhost"]) as session:
            for _ in range(3):
                await send(session, "GET", f"http://localhost:{port}/")

    asyncio.run(run())
    assert len({peer for peer, _ in seen}) == 1
    assert {cookie for _, cookie in seen} == {None}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must begin with http:// or https://"),
        ("example.com/hooks", "must begin with http:// or https://"),
        ("ftp://example.com/", "must begin with http:// or https://"),
        ("https:///hooks", "names no host|is not a URL"),
        ("https://ada:secret@example.com/", "the URL of example.com must not hold a user name or password"),
        ("https://example.com:99999/", "is not a URL"),
        ("https://[::1/", "is not a URL"),
    ],
)
def test_a_url_that_cannot_be_called_is_refused_when_saved(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_url(url, allow=[])


def test_a_public_url_passes() -> None:
    assert check_url("https://example.com:8443/hooks?x=1", allow=[]) == "https://example.com:8443/hooks?x=1"
    assert check_url("https://93.184.215.14/", allow=[]) == "https://93.184.215.14/"
