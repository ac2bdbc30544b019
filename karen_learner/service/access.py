"""Callers of the service: their API keys, tenants and rates."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from karen_learner.contracts import AccessStore
from karen_learner.errors import Forbidden, InvalidInput, TooManyRequests, Unauthenticated, UnknownTenant
from karen_learner.records import check_id
from karen_learner.records.access import ROLES, Action, ApiKey, Role

PREFIX = "kl"
KEYS_FOR_S = 1.0
"""Seconds for which the keys of the store are remembered: a revoked key is refused after them."""
MAX_CALLERS = 10_000
BURST_S = 2.0
"""Seconds of the allowed rate that a caller may use at once."""
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip")
NO_KEY = (
    "send the header `Authorization: Bearer KEY`; `karen-learner keys create NAME` makes a key, and without "
    "any key only direct requests from this machine are answered"
)


def new_key(name: str, role: Role, tenants: Sequence[str] = ()) -> tuple[ApiKey, str]:
    """A new key, and the text that its holder sends. Only a digest of the text is in the key.

    Raises InvalidInput for an unknown role, or an unfit name or tenant.
    """
    if role not in ROLES:
        raise InvalidInput(f"unknown role {role!r}: one of {', '.join(ROLES)}")
    if len(check_id(name, "the name of a key")) > 200:
        raise InvalidInput("the name of a key has at most 200 characters")
    for tenant_id in tenants:
        check_id(tenant_id, "tenant_id")
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    key = ApiKey(key_id=key_id, name=name, digest=_digest(secret), role=role, tenants=tuple(tenants))
    return key, f"{PREFIX}_{key_id}_{secret}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Caller:
    """Sender of a request. Without a key it is a program of this machine, and may do everything."""

    caller_id: str
    key: ApiKey | None = None

    def require(self, action: Action, tenant_id: str | None = None) -> None:
        """Raises Forbidden, and UnknownTenant for a tenant of others: its existence is not told."""
        if self.key is None:
            return
        if tenant_id is not None and not self.key.may_name(tenant_id):
            raise UnknownTenant(f"nothing is stored for the tenant {tenant_id!r}")
        if not self.key.allows(action):
            raise Forbidden(f"the key {self.key.key_id} has the role {self.key.role}, which may not {action}")
        if tenant_id is None and self.key.tenants:
            raise Forbidden(f"the key {self.key.key_id} is for single tenants, not for the whole store")

    def may(self, action: Action, tenant_id: str | None = None) -> bool:
        """Whether `require` raises nothing."""
        try:
            self.require(action, tenant_id)
        except (Forbidden, UnknownTenant):
            return False
        return True

    def visible(self, tenant_ids: Sequence[str]) -> list[str]:
        """Those of the tenants that the caller may name."""
        return [one for one in tenant_ids if self.key is None or self.key.may_name(one)]


class Access:
    """Finds the caller of a request, and limits its rate."""

    def __init__(
        self,
        store: AccessStore,
        *,
        requests_per_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._rate = requests_per_s
        self._clock = clock
        self._keys: Mapping[str, ApiKey] = {}
        self._read_at = float("-inf")
        self._allowances: LRUCache[str, tuple[float, float]] = LRUCache(MAX_CALLERS)

    async def has_keys(self) -> bool:
        """Whether the store has a key, revoked or not."""
        return bool(await self._current_keys())

    async def key(self, key_id: str) -> ApiKey | None:
        """The key with this id; None for an unknown or revoked one."""
        found = (await self._current_keys()).get(key_id)
        return None if found is None or found.revoked_at is not None else found

    async def caller(self, client: str | None, headers: Mapping[str, str]) -> Caller:
        """The caller with this address and these headers (lower-case names). Raises Unauthenticated."""
        keys = await self._current_keys()
        given = headers.get("authorization")
        if given is not None:
            return self._holder(keys, given)
        if keys or not _is_direct(client, headers):
            raise Unauthenticated(NO_KEY)
        return Caller("loopback")

    def take(self, name: str) -> None:
        """Count a request of a caller or address. Raises TooManyRequests above the rate (token bucket)."""
        if not self._rate:
            return
        now, capacity = self._clock(), max(1.0, self._rate * BURST_S)
        left, at = self._allowances.get(name, (capacity, now))
        left = min(capacity, left + (now - at) * self._rate)
        if left < 1.0:
            self._allowances[name] = (left, now)
            error = TooManyRequests(f"more than {self._rate:g} requests a second: send fewer, or batches")
            error.retry_after_s = (1.0 - left) / self._rate
            raise error
        self._allowances[name] = (left - 1.0, now)

    async def _current_keys(self) -> Mapping[str, ApiKey]:
        if self._clock() - self._read_at > KEYS_FOR_S:
            self._keys = {key.key_id: key for key in await self._store.api_keys()}
            self._read_at = self._clock()
        return self._keys

    def _holder(self, keys: Mapping[str, ApiKey], authorization: str) -> Caller:
        scheme, _, text = authorization.partition(" ")
        prefix, _, rest = text.strip().partition("_")
        key_id, _, secret = rest.partition("_")
        key = keys.get(key_id)
        expected = key.digest if key is not None else _digest("")
        fits = hmac.compare_digest(_digest(secret), expected)
        if scheme.lower() != "bearer" or prefix != PREFIX or key is None or not fits or key.revoked_at:
            raise Unauthenticated("the API key is unknown or revoked")
        return Caller(key.key_id, key)


def is_local(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOCAL_NAMES


def _is_direct(client: str | None, headers: Mapping[str, str]) -> bool:
    """Whether a program of this machine asks by itself: no proxy, and no web page of another site.

    A page may resolve its own name to 127.0.0.1, so the names in `Host` and `Origin` must be local too.
    """
    if client is None or not is_local(client) or any(name in headers for name in FORWARDING_HEADERS):
        return False
    origin = headers.get("origin")
    names = [headers.get("host", "")] + ([origin.partition("//")[2]] if origin is not None else [])
    return all(is_local(_host_name(name)) for name in names)


def _host_name(authority: str) -> str:
    """The host of `host:port`."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.rpartition(":")[0] or authority
