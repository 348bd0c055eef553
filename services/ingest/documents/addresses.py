"""Which addresses a document may be fetched from: schemes, hosts, ports, and what a host's name stands for.

A name is resolved once. Whoever connects uses the addresses that were looked at here: a name that stands for another
one a moment later changes nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import httpx

from anamnesis.kit.errors import BadRequest, Forbidden, Unavailable

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The IP addresses of a host's name."""

RESOLVE = 5.0  # seconds
_PORTS = {"https": 443, "http": 80}
_TUNNELS = tuple(
    map(ipaddress.IPv6Network, ("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48", "::/96", "fec0::/10"))
)
"""IPv6 addresses that carry an IPv4 address, or lead where nobody can tell."""
_CLOSED = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))
"""What Python calls global, in whole or in some versions, and is not: special purposes, relays, documentation."""


class Target(NamedTuple):
    """An address that may be fetched."""

    url: httpx.URL
    host: str
    port: int
    named: bool
    """Whether the host is named literally: then it may also be a private one."""


class Policy(NamedTuple):
    """What is allowed, as the settings say."""

    schemes: tuple[str, ...]
    hosts: tuple[str, ...]

    def check(self, text: str) -> Target:
        """Raises `BadRequest` for what is no address, and `Forbidden` for one that is not allowed."""
        try:
            url = httpx.URL(text)
        except (httpx.InvalidURL, ValueError):
            raise BadRequest(
                "this is no address that can be fetched; one looks like https://example.org/page"
            ) from None
        scheme, host = url.scheme.lower(), url.raw_host.decode("ascii", "replace").lower().rstrip(".")
        if scheme not in self.schemes or scheme not in _PORTS:
            raise Forbidden(f"only {', '.join(self.schemes) or 'nothing'} may be fetched (ANAMNESIS_URL_SCHEMES)")
        if not host:
            raise BadRequest("this address names no host; one looks like https://example.org/page")
        if url.userinfo:
            raise BadRequest("an address with a user's name or a password is not fetched; leave them out")
        port = _PORTS[scheme] if url.port is None else url.port
        shown = f"[{host}]" if ":" in host else host
        literal = {shown, host, f"{shown}:{port}"}
        named = any(one.lower().rstrip(".") in literal for one in self.hosts)
        if not named and not any(_covers(one.lower(), host) for one in self.hosts):
            raise Forbidden(
                f"nothing may be fetched from {host}: name it in ANAMNESIS_URL_HOSTS (`{host}`, `*.{host}`, or `*` for "
                "any public host) and start again"
            )
        if port != _PORTS[scheme] and f"{shown}:{port}" not in {one.lower() for one in self.hosts}:
            raise Forbidden(f"this port is not fetched from; name {shown}:{port} in ANAMNESIS_URL_HOSTS to allow it")
        return Target(url, host, port, named)


async def addresses(target: Target, resolve: Resolve) -> Sequence[str]:
    """Where to connect for a target. Raises `Forbidden` where one of its addresses is not public."""
    try:
        async with asyncio.timeout(RESOLVE):
            found = await resolve(target.host, target.port)
    except TimeoutError:
        raise Unavailable(f"the name {target.host} could not be resolved in time") from None
    except (OSError, UnicodeError):
        raise Unavailable(f"the name {target.host} cannot be resolved") from None
    if not found:
        raise Unavailable(f"the name {target.host} cannot be resolved")
    if not target.named and not all(map(is_public, found)):
        raise Forbidden(
            f"{target.host} lies in a private network; where that is meant, name it literally in ANAMNESIS_URL_HOSTS"
        )
    return found


async def resolve(host: str, port: int) -> Sequence[str]:
    """As the operating system resolves it."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(one[4][0]) for one in found))


def is_public(text: str) -> bool:
    """Whether an IP address is one of the open Internet: not this machine, its network, or a way around."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if any(address in network for network in _TUNNELS):
            return False
    if any(address in network for network in _CLOSED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _covers(pattern: str, host: str) -> bool:
    if pattern == "*":
        return True
    return pattern.startswith("*.") and host.endswith(pattern[1:])
