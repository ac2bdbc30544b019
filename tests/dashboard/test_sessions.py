"""Login, sessions, and forms of other sites."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI

from karen_learner.records import utc_now
from karen_learner.records.access import Session
from karen_learner.records.incidents import RemedyPause
from karen_learner.service import create_app
from karen_learner.service.access import new_key
from karen_learner.service.dashboard.sessions import COOKIE, digest_of
from tests.conftest import MakeLearner

BASE = "http://127.0.0.1:8000"
OWN = {"Origin": BASE}
QUALITY = "/dashboard/tenants/acme/quality"

AddKey = Callable[..., Awaitable[tuple[str, str]]]


@pytest.fixture
def store_kind() -> str:
    return "file"


@pytest.fixture
async def app(make_learner: MakeLearner) -> AsyncIterator[FastAPI]:
    made = create_app(make_learner())
    async with made.router.lifespan_context(made):
        yield made


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as made:
        yield made


@pytest.fixture
def add_key(app: FastAPI) -> AddKey:
    async def add(role: str, *tenants: str) -> tuple[str, str]:
        key, secret = new_key("test", role, tenants)  # type: ignore[arg-type]
        await app.state.parts.access_store.add_api_key(key)
        app.state.parts.access._read_at = float("-inf")
        return key.key_id, secret

    return add


async def log_in(client: httpx.AsyncClient, secret: str, **more: str) -> httpx.Response:
    return await client.post("/dashboard/login", data={"key": secret, **more}, headers=OWN)


async def test_without_keys_this_machine_needs_no_login(client: httpx.AsyncClient) -> None:
    found = await client.get(QUALITY)
    assert found.status_code == 200
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert "unsafe" not in found.headers["content-security-policy"]


async def test_a_key_opens_a_session_that_survives_no_logout(
    client: httpx.AsyncClient, add_key: AddKey
) -> None:
    _, secret = await add_key("reader")
    refused = await client.get(QUALITY)
    assert (refused.status_code, refused.headers["location"].startswith("/dashboard/login?next=")) == (
        303,
        True,
    )
    opened = await log_in(client, secret, next=QUALITY)
    cookie = opened.headers["set-cookie"]
    assert opened.headers["location"] == QUALITY
    assert secret not in cookie
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/dashboard"))
    assert (await client.get(QUALITY)).status_code == 200
    value = client.cookies[COOKIE]
    await client.post("/dashboard/logout", headers=OWN)
    client.cookies.set(COOKIE, value)
    assert (await client.get(QUALITY)).status_code == 303


async def test_a_wrong_key_opens_nothing_and_is_not_repeated(
    client: httpx.AsyncClient, add_key: AddKey
) -> None:
    await add_key("reader")
    answer = await log_in(client, "kl_<script>_x")
    assert (answer.status_code, "set-cookie" in answer.headers, "<script>_x" in answer.text) == (
        401,
        False,
        False,
    )


@pytest.mark.parametrize(
    "target", ["https://example.org", "//example.org", "/dashboard/../x\\", "javascript:1"]
)
async def test_the_login_leads_to_pages_of_the_dashboard_only(
    client: httpx.AsyncClient, add_key: AddKey, target: str
) -> None:
    _, secret = await add_key("reader")
    assert (await log_in(client, secret, next=target)).headers["location"] == "/dashboard"


async def test_a_session_ends_with_its_key_and_with_its_time(
    client: httpx.AsyncClient, add_key: AddKey, app: FastAPI
) -> None:
    store, access = app.state.parts.access_store, app.state.parts.access
    key_id, secret = await add_key("reader")
    await log_in(client, secret)
    await store.revoke_api_key(key_id, at=utc_now())
    access._read_at = float("-inf")
    assert (await client.get(QUALITY)).status_code == 303
    other, _ = await add_key("reader")
    past = utc_now() - timedelta(seconds=1)
    await store.add_session(Session(digest=digest_of("old"), key_id=other, expires_at=past), now=past)
    client.cookies.set(COOKIE, "old")
    assert (await client.get(QUALITY)).status_code == 303


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:3000"}, {"Sec-Fetch-Site": "same-site"}]
)
async def test_a_form_of_another_site_is_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await client.post("/dashboard/tenants/acme/cycles", data={"reason": "x"}, headers=headers)
    assert answer.status_code == 403


async def test_the_api_takes_no_forms_and_no_cookies(client: httpx.AsyncClient, add_key: AddKey) -> None:
    _, secret = await add_key("admin")
    await log_in(client, secret)
    assert (await client.get("/v1/tenants/acme")).status_code == 401
    assert (await client.post("/v1/tenants/acme/cycles", data={"a": "b"}, headers=OWN)).status_code == 415


async def test_roles_and_tenants_hold_on_pages(client: httpx.AsyncClient, add_key: AddKey) -> None:
    _, secret = await add_key("reader", "acme")
    await log_in(client, secret)
    assert (await client.get(QUALITY)).status_code == 200
    assert (await client.get("/dashboard/tenants/other/quality")).status_code == 404
    refused = await client.post("/dashboard/tenants/acme/cycles", data={}, headers=OWN)
    assert (refused.status_code, "role reader" in refused.text) == (403, True)
    assert "Start a cycle now" not in (await client.get("/dashboard/tenants/acme/cycles")).text


async def test_a_key_of_a_tenant_sees_no_pause_of_the_home(
    client: httpx.AsyncClient, add_key: AddKey, app: FastAPI
) -> None:
    for tenant_id, reason in ((None, "of the home"), ("acme", "of acme")):
        new = RemedyPause(remedy="rollback", tenant_id=tenant_id, reason=reason, at=utc_now())
        await app.state.parts.learner.store.pause_remedy(new)
    for tenants, is_seen in ((("acme",), False), ((), True)):
        _, secret = await add_key("reader", *tenants)
        await log_in(client, secret)
        shown = (await client.get("/dashboard/tenants/acme/incidents")).text
        assert ("of acme" in shown, "of the home" in shown) == (True, is_seen)


@pytest.mark.parametrize("ending", ["logout", "time", "key"])
async def test_a_stream_ends_with_its_session(
    client: httpx.AsyncClient, add_key: AddKey, app: FastAPI, ending: str
) -> None:
    parts = app.state.parts
    parts.stream_check_s = 0.01
    key_id, secret = await add_key("reader")
    await log_in(client, secret)
    streaming = asyncio.create_task(client.get("/dashboard/tenants/acme/stream"))
    async with asyncio.timeout(60):
        while not parts.streams:
            await asyncio.sleep(0.01)
        digest = digest_of(client.cookies[COOKIE])
        if ending == "key":
            await parts.access_store.revoke_api_key(key_id, at=utc_now())
            parts.access._read_at = float("-inf")
        else:
            await parts.access_store.end_session(digest)
        if ending == "time":
            over = Session(digest=digest, key_id=key_id, expires_at=utc_now() - timedelta(seconds=1))
            await parts.access_store.add_session(over, now=over.expires_at)
        assert (await streaming).status_code == 200
    assert parts.streams == 0


async def test_a_part_of_a_page_leads_to_the_login(client: httpx.AsyncClient, add_key: AddKey) -> None:
    await add_key("reader")
    answer = await client.get(QUALITY, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/dashboard/login")
