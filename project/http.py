"""Outgoing HTTP that cannot be turned against our own network."""

import socket
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings
from yarl import URL

KEPT_BYTES = 2048
"""How much of an answer is read and kept."""

# Ways inside that need their own name, or that `is_global` lets through: metadata services, IPv6 that carries IPv4.
_ALSO_REFUSED = {
    ip_network("168.63.129.16/32"): "a cloud metadata address",
    ip_network("::ffff:0:0/96"): "an IPv4 address written as IPv6",
    ip_network("64:ff9b::/96"): "a NAT64 address",
    ip_network("64:ff9b:1::/48"): "a NAT64 address",
    ip_network("2002::/16"): "a 6to4 address",
    ip_network("2001::/32"): "a Teredo address",
    ip_network("169.254.169.254/32"): "a cloud metadata address",
    ip_network("fd00:ec2::254/128"): "a cloud metadata address",
}


class AddressRefused(aiohttp.ClientError, ValueError):
    """The request would have gone to a private or otherwise inner address. Trying again does not help."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to `send`: of the body only the first bytes, with errors replaced when it is not UTF-8."""

    status: int
    headers: Mapping[str, str]
    text: str
    ms: int


@dataclass(frozen=True)
class _Allowed:
    """The entries of OUTBOUND_ALLOW: names and `host:port` as they are, addresses and networks as networks."""

    names: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]

    def name(self, host: str, port: int | None) -> bool:
        return host in self.names or _with_port(host, port) in self.names

    def address(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.networks)


def guarded_session(*, time_limit: float = 30, allow: Collection[str] | None = None) -> aiohttp.ClientSession:
    """A session that raises AddressRefused instead of connecting to an inner address.

    Call it inside the running loop. The address that is checked is the one that is connected to, so a name that
    resolves differently the second time does not slip through.

    `allow` (default: settings.OUTBOUND_ALLOW) lists the exceptions: a host, `host:port`, an address or a network.
    `time_limit` is in seconds and for the whole request, 0 for none. The session has no limit on connections, keeps
    them alive, and has neither cookies nor proxies. Use `send`, which follows no redirects and reads no more than it
    keeps.
    """
    allowed = _parse_allowed(tuple(settings.OUTBOUND_ALLOW if allow is None else allow))

    async def refuse_literals(
        request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        # aiohttp does not ask the resolver about a host that is an address already.
        _check_literal(request.url, allowed)
        return await send(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=_GuardedResolver(allowed), limit=0, limit_per_host=0, ttl_dns_cache=10, keepalive_timeout=30
        ),
        middlewares=(refuse_literals,),
        timeout=aiohttp.ClientTimeout(total=time_limit),
        cookie_jar=aiohttp.DummyCookieJar(),
        # Nothing is gained by compressing 2 KB, and a small compressed body can be a very large one.
        headers={"Accept-Encoding": "identity"},
    )


async def send(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    time_limit: float | None = None,
    keep: int = KEPT_BYTES,
) -> Reply:
    """One request; a redirect is the answer, not followed. `time_limit` in seconds overrides the session's.

    Raises AddressRefused, any other aiohttp.ClientError, or TimeoutError.
    """
    started = time.monotonic()
    limit = session.timeout if time_limit is None else aiohttp.ClientTimeout(total=time_limit)
    async with session.request(
        method, url, data=body, headers=headers, timeout=limit, allow_redirects=False
    ) as response:
        received = await _first_bytes(response.content, keep)
        return Reply(
            status=response.status,
            headers=response.headers,
            text=received.decode(errors="replace"),
            ms=round((time.monotonic() - started) * 1000),
        )


def check_url(url: str, *, allow: Collection[str] | None = None) -> str:
    """The url itself, when it can be called: http or https, with a host, no credentials, no inner address in it.

    For when a url is saved; where a name leads is only known when it is called. Raises ValueError (AddressRefused),
    whose message never repeats the url: whoever knows a chat's url can write there.
    """
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError as error:
        raise ValueError(f"this is not a URL: {error}") from error
    if parsed.scheme not in ("http", "https"):
        raise ValueError("a URL must begin with http:// or https://")
    if not host or not port:
        raise ValueError("the URL names no host; write for example https://example.com/hooks")
    if parsed.user is not None or parsed.password is not None:
        raise ValueError(f"the URL of {host} must not hold a user name or password; send them as a header")
    _check_literal(parsed, _parse_allowed(tuple(settings.OUTBOUND_ALLOW if allow is None else allow)))
    return url


class _GuardedResolver(AbstractResolver):
    """Resolves names, leaves out inner addresses, and refuses a name that has no other."""

    def __init__(self, allowed: _Allowed) -> None:
        self._allowed = allowed
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        if self._allowed.name(host, port):
            return results
        reasons = [(result, _refusal(_address_of(result["host"]), self._allowed)) for result in results]
        open_ones = [result for result, reason in reasons if reason is None]
        if not open_ones and reasons:
            result, reason = reasons[0]
            raise AddressRefused(_explain(f"{host} resolves to {result['host']}, {reason}", host))
        return open_ones

    async def close(self) -> None:
        await self._resolver.close()


def _check_literal(url: URL, allowed: _Allowed) -> None:
    host = url.host or ""
    reason = _literal_refusal(host, allowed)
    if reason and not allowed.name(host, url.port):
        raise AddressRefused(_explain(f"{host} is {reason}", host))


@lru_cache(maxsize=1000)  # reading an address again for every message was a tenth of sending it
def _literal_refusal(host: str, allowed: _Allowed) -> str | None:
    """Why the host must not be called, as far as that can be seen from it: None for a name, the resolver decides."""
    try:
        address = _address_of(host)
    except ValueError:
        return None
    return _refusal(address, allowed)


def _refusal(address: IPv4Address | IPv6Address, allowed: _Allowed) -> str | None:
    """Why the address must not be called, or None."""
    if allowed.address(address):
        return None
    for network, reason in _ALSO_REFUSED.items():
        if address in network:
            return reason
    if address.is_unspecified:
        return "an unspecified address"
    if address.is_loopback:
        return "a loopback address"
    if address.is_link_local or (isinstance(address, IPv6Address) and address.is_site_local):
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    # `not is_global` also covers shared addresses (100.64.0.0/10), which are neither private nor public.
    return "a private or reserved address" if address.is_reserved or not address.is_global else None


def _explain(what: str, host: str) -> str:
    return f'{what}, and is not called; add "{host}" to OUTBOUND_ALLOW to allow it'


def _address_of(host: str) -> IPv4Address | IPv6Address:
    """The address with its zone (`fe80::1%eth0`) left out, so that it compares equal to entries of networks."""
    return ip_address(host.partition("%")[0])


@lru_cache(maxsize=8)
def _parse_allowed(entries: tuple[str, ...]) -> _Allowed:
    names, networks = set(), []
    for entry in (entry.strip().lower() for entry in entries):
        try:
            networks.append(ip_network(entry, strict=False))
        except ValueError:
            names.add(entry)
    return _Allowed(frozenset(names), tuple(networks))


def _with_port(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _first_bytes(stream: aiohttp.StreamReader, count: int) -> bytes:
    received = bytearray()
    while len(received) < count and (chunk := await stream.read(count - len(received))):
        received += chunk
    return bytes(received)
