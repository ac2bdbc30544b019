"""Resolves the host of a target once for each message, and refuses private addresses."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from pydantic import SecretStr

from karen_learner.errors import DeliveryFailed
from karen_learner.settings import FROM_ENVIRONMENT

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host and port. Raises OSError."""

NAT64 = IPv6Network("64:ff9b::/96")
MAX_ADDRESSES = 3


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, from the resolver of the operating system. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def checked_addresses(
    host: str, port: int, *, allow_private: bool, resolver: Resolver = resolve
) -> Sequence[str]:
    """Up to three addresses of a host. A connection goes to one of these: the name is not resolved again.

    Raises DeliveryFailed without an address, and if one of them is private without `allow_private`.
    """
    try:
        found = list(dict.fromkeys(await resolver(host, port)))
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise DeliveryFailed("the host name cannot be resolved")
    if not allow_private and not all(map(is_public, found)):
        raise DeliveryFailed("the host has a private address: allow it with allow_private")
    return found[:MAX_ADDRESSES]


def is_public(address: str) -> bool:
    """Whether an address is global unicast, also if it contains another address (RFC 4291, 6052, 3056)."""
    parsed = ip_address(address.partition("%")[0])
    return all(one.is_global and not one.is_multicast for one in (parsed, *_inner(parsed)))


def _inner(address: IPv4Address | IPv6Address) -> Sequence[IPv4Address]:
    if isinstance(address, IPv4Address):
        return ()
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in NAT64:
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in inner if one is not None]


def revealed(secret: SecretStr) -> str:
    """The value of a secret, or of the environment variable that it names. Raises DeliveryFailed."""
    value = secret.get_secret_value()
    if not value.startswith(FROM_ENVIRONMENT):
        return value
    name = value.removeprefix(FROM_ENVIRONMENT)
    if not (found := os.environ.get(name)):
        raise DeliveryFailed(f"the environment variable {name!r:.100} is not set")
    return found
