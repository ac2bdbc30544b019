"""Sends messages to webhooks over HTTP. The only file that imports httpx.

Requests go through httpx's transport and not its client: the client logs URLs, and follows proxies of the
environment, which would resolve the name again.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache

import httpx
from asyncio_extras import call_in_executor

from karen_learner.autonomy.notifications.addresses import Resolver, checked_addresses, resolve, revealed
from karen_learner.autonomy.notifications.messages import body_of, json_bytes, signed_headers
from karen_learner.errors import DeliveryFailed
from karen_learner.records.notifications import Notification
from karen_learner.settings import WebhookTarget

MAX_REDIRECTS = 3
REDIRECTS = (307, 308)
"""Redirects that repeat a POST with its body."""
MAX_RETRY_AFTER_S = 86_400.0


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def post(
    target: WebhookTarget,
    message_id: str,
    group: Sequence[Notification],
    *,
    now: datetime,
    resolver: Resolver = resolve,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Send one message. The caller limits the time. Raises DeliveryFailed, without the URL.

    Only a private address may be reached without TLS.
    """
    body = json_bytes(body_of(target, message_id, group))
    headers = {"content-type": "application/json", "user-agent": "karen-learner"}
    if target.secret is not None:
        headers |= signed_headers(revealed(target.secret), message_id, body, now)
    url = _parsed(revealed(target.url))
    context = tls or await call_in_executor(_tls)
    for _ in range(MAX_REDIRECTS + 1):
        response = await _request(target, url, headers, body, resolver, context)
        if response.status_code // 100 == 2:
            return
        if response.status_code // 100 != 3:
            raise DeliveryFailed(f"HTTP status {response.status_code}", retry_after_s=_retry_after(response))
        if not target.allow_redirects or response.status_code not in REDIRECTS:
            raise DeliveryFailed(f"HTTP status {response.status_code}: redirects are not followed")
        url = _parsed(response.headers.get("location", ""), url)
    raise DeliveryFailed("too many redirects")


async def _request(
    target: WebhookTarget,
    url: httpx.URL,
    headers: Mapping[str, str],
    body: bytes,
    resolver: Resolver,
    tls: ssl.SSLContext,
) -> httpx.Response:
    """The response, without its body, of the first address that can be connected to."""
    port = url.port or (443 if url.scheme == "https" else 80)
    if url.scheme != "https" and not target.allow_private:
        raise DeliveryFailed("http:// needs allow_private: a public host needs https://")
    addresses = await checked_addresses(url.host, port, allow_private=target.allow_private, resolver=resolver)
    failure = DeliveryFailed("the host cannot be connected to")
    async with httpx.AsyncHTTPTransport(verify=tls, http2=False, retries=0) as transport:
        for address in addresses:
            request = httpx.Request(
                "POST",
                url.copy_with(host=address),
                headers={**headers, "host": url.netloc.decode("ascii")},
                content=body,
                extensions={"sni_hostname": url.host},
            )
            try:
                response = await transport.handle_async_request(request)
                await response.aclose()
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = DeliveryFailed(f"the host cannot be connected to ({type(error).__name__})")
                continue
            except httpx.HTTPError as error:
                raise DeliveryFailed(type(error).__name__) from None
            return response
    raise failure


def _parsed(text: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        url = httpx.URL(text) if base is None else base.join(text)
    except httpx.InvalidURL:
        raise DeliveryFailed("the URL cannot be parsed") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise DeliveryFailed("the URL needs https:// or http:// and a host, without a user name")
    return url


def _retry_after(response: httpx.Response) -> float | None:
    """The seconds of the header `Retry-After`; None for a date, which needs the clock of the server."""
    value = response.headers.get("retry-after", "")
    known = value.isascii() and value.isdecimal() and len(value) < 10
    return min(float(value), MAX_RETRY_AFTER_S) if known else None
