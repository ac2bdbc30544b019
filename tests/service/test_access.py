"""Keys, roles, tenants, rates, and the audit log."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.errors import Forbidden, InvalidInput, TooManyRequests, Unauthenticated, UnknownTenant
from karen_learner.events import StageStarted
from karen_learner.records import utc_now
from karen_learner.records.access import ACTIONS, ROLES, Action, AuditEntry, Role
from karen_learner.service.access import Access, Caller, new_key
from karen_learner.service.app import _prune_audit
from tests.conftest import ACME

PUBLIC = {"/healthz", "/readyz"}
ACTION_OF_METHOD: dict[tuple[str, str], Action] = {
    ("POST", "analyze"): "converse",
    ("POST", "turns"): "converse",
    ("POST", "batch"): "converse",
    ("POST", "feedback"): "converse",
    ("POST", "runs"): "converse",
    ("POST", "accuracy"): "converse",
    ("POST", "decisions"): "converse",
    ("DELETE", "decisions"): "administer",
    ("DELETE", "users"): "administer",
    ("GET", "{key}"): "administer",
    ("GET", "{turn_id}"): "administer",
    ("GET", "audit"): "administer",
    ("GET", "quarantine"): "operate",
}
"""Actions by the method and the last part of the path; otherwise GET is `read`, and the others `operate`."""


class Keys:
    """A store of keys in memory."""

    def __init__(self, *keys):
        self.keys = list(keys)

    async def api_keys(self):
        return self.keys


def operations(app: FastAPI):
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path


def filled(path: str) -> str:
    values = {"{tenant_id}": ACME, "{job_id}": "j", "{turn_id}": "t", "{cycle_id}": "c", "{version}": "v",
              "{label}": "travel", "{report_id}": "0" * 32}  # fmt: skip
    for name, value in values.items():
        path = path.replace(name, value)
    return path


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_may_use_its_operations_alone(app, make_client, role: Role):
    client = await make_client(role)
    for method, path in operations(app):
        if path in PUBLIC or path.endswith("/events"):
            continue
        default: Action = "read" if method == "GET" else "operate"
        action = ACTION_OF_METHOD.get((method, path.rpartition("/")[2]), default)
        response = await client.request(method, filled(path), json={} if method != "GET" else None)
        refused = response.status_code == 403
        assert refused == (action not in ROLES[role]), (role, method, path, response.text)


async def test_a_key_of_a_tenant_cannot_see_another_one(app, make_client):
    client = await make_client("admin", ("other",))
    for method, path in operations(app):
        if path in PUBLIC or path.endswith("/events") or path == "/v1/tenants":
            continue
        response = await client.request(method, filled(path), json={} if method != "GET" else None)
        expected = {404} if "{tenant_id}" in path else {403, 404, 422}
        assert response.status_code in expected, (method, path, response.text)
    assert (await client.get("/v1/tenants")).json() == []
    unknown = await client.get("/v1/tenants/never-there")
    foreign = await client.get(f"/v1/tenants/{ACME}")
    assert foreign.json()["detail"].replace(ACME, "") == unknown.json()["detail"].replace("never-there", "")


@pytest.mark.parametrize("tenants", [(), (ACME,), ("other",)])
@pytest.mark.parametrize("role", ROLES)
async def test_the_matrix_of_roles_tenants_and_actions_is_complete(app, make_client, role: Role, tenants):
    """404 for a foreign tenant before all else, 403 for a missing right, and neither otherwise."""
    client = await make_client(role, tenants)
    of_tenant = [(method, path) for method, path in operations(app) if "{tenant_id}" in path]
    assert len(of_tenant) > 40
    for method, path in of_tenant:
        if path.endswith("/events") or path.startswith("/dashboard"):
            continue
        default: Action = "read" if method == "GET" else "operate"
        action = ACTION_OF_METHOD.get((method, path.rpartition("/")[2]), default)
        response = await client.request(method, filled(path), json=[] if method != "GET" else None)
        if tenants == ("other",):
            assert response.status_code == 404, (method, path)
            assert response.json()["type"].endswith("unknown-tenant"), (method, path)
        else:
            assert (response.status_code == 403) == (action not in ROLES[role]), (method, path)
            assert response.status_code < 500, (method, path, response.text)


async def test_without_keys_only_this_machine_is_answered(make_client):
    assert (await (await make_client()).get("/v1/tenants")).json() == [ACME]
    for address, headers in [
        ("10.0.0.7", {}),
        ("127.0.0.1", {"X-Forwarded-For": "10.0.0.7"}),
        ("127.0.0.1", {"Host": "evil.example"}),
        ("127.0.0.1", {"Origin": "https://evil.example"}),
    ]:
        client = await make_client(address=address, headers=headers)
        response = await client.get("/v1/tenants")
        assert response.status_code == 401, (address, headers)
        assert response.headers["www-authenticate"] == "Bearer"


async def test_with_a_key_this_machine_needs_one_too(make_client):
    await make_client("reader")
    assert (await (await make_client()).get("/v1/tenants")).status_code == 401
    assert (await (await make_client()).get("/healthz")).status_code == 200


async def test_a_revoked_key_is_refused(app, make_client):
    client = await make_client("reader")
    assert (await client.get("/v1/tenants")).status_code == 200
    store, access = app.state.parts.access_store, app.state.parts.access
    (key,) = await store.api_keys()
    assert await store.revoke_api_key(key.key_id, at=utc_now())
    assert not await store.revoke_api_key(key.key_id, at=utc_now())
    access._read_at = float("-inf")
    assert (await client.get("/v1/tenants")).status_code == 401


@pytest.mark.parametrize("check_s", [0.01, 3600.0])
async def test_a_stream_ends_when_its_key_is_revoked(app, make_client, check_s):
    parts = app.state.parts
    parts.stream_check_s = check_s
    client = await make_client("reader")
    streaming = asyncio.create_task(client.get(f"/v1/tenants/{ACME}/events"))
    async with asyncio.timeout(60):
        while not parts.streams:
            await asyncio.sleep(0.01)
        (key,) = await parts.access_store.api_keys()
        await parts.access_store.revoke_api_key(key.key_id, at=utc_now())
        parts.access._read_at = float("-inf")
        while not streaming.done():
            parts.learner.events.publish(StageStarted(tenant_id=ACME, cycle_id="secret", stage="training"))
            await asyncio.sleep(0.01)
        response = await streaming
    assert (response.status_code, "secret" in response.text, parts.streams) == (200, False, 0)


async def test_the_audit_log_is_pruned_again_and_again(app):
    store = app.state.parts.access_store
    pruning = asyncio.create_task(_prune_audit(store, days=1.0, every_s=0.01))
    old = AuditEntry(at=utc_now() - timedelta(days=2), caller="k", request="r", status=200)
    async with asyncio.timeout(60):
        for _ in range(2):
            await store.add_audit([old])
            while await store.audit():
                await asyncio.sleep(0.01)
    pruning.cancel()
    await asyncio.wait({pruning})


async def test_changes_and_refusals_are_audited(app, make_client):
    operator, reader, admin = [await make_client(role) for role in ("operator", "reader", "admin")]
    await operator.post(f"/v1/tenants/{ACME}/cycles", json={})
    await reader.post(f"/v1/tenants/{ACME}/cycles", json={})
    await reader.get(f"/v1/tenants/{ACME}")
    await admin.get(f"/v1/tenants/{ACME}/turns/secret-id")
    await app.state.parts.jobs.wait()
    entries = (await admin.get("/v1/audit", params={"tenant_id": ACME})).json()
    assert [(one["request"], one["status"]) for one in entries] == [
        ("GET /v1/tenants/{tenant_id}/turns/{turn_id}", 404),
        ("POST /v1/tenants/{tenant_id}/cycles", 403),
        ("POST /v1/tenants/{tenant_id}/cycles", 202),
    ]
    rest = await admin.get("/v1/audit", params={"tenant_id": ACME, "before": entries[1]["seq"]})
    assert rest.json() == entries[2:]


async def test_the_store_has_no_secret(app, make_client):
    client = await make_client("reader")
    (key,) = await app.state.parts.access_store.api_keys()
    secret = client.headers["authorization"].rpartition("_")[2]
    assert secret not in key.model_dump_json()


@given(given=st.text(max_size=80))
async def test_no_other_text_is_a_key(given):
    key, secret = new_key("k", "admin")
    access = Access(Keys(key))
    assert (await access.caller("10.0.0.7", {"authorization": f"Bearer {secret}"})).key == key
    for text in (given, f"Bearer {given}", f"Bearer kl_{key.key_id}_{given}", f"Basic {secret}"):
        with pytest.raises(Unauthenticated):
            await access.caller("127.0.0.1", {"authorization": text})


@given(
    role=st.sampled_from(sorted(ROLES)), action=st.sampled_from(ACTIONS), tenant=st.sampled_from(["a", "b"])
)
def test_a_key_is_for_its_tenants_and_actions(role, action, tenant):
    key, _ = new_key("k", role, ["a"])
    caller = Caller(key.key_id, key)
    if tenant == "b":
        with pytest.raises(UnknownTenant):
            caller.require(action, tenant)
    elif action in ROLES[role]:
        caller.require(action, tenant)
        with pytest.raises(Forbidden):
            caller.require(action)
    else:
        with pytest.raises(Forbidden):
            caller.require(action, tenant)


def test_rates_are_limited_per_caller():
    now = [0.0]
    access = Access(Keys(), requests_per_s=10, clock=lambda: now[0])
    for _ in range(20):
        access.take("a")
    with pytest.raises(TooManyRequests) as refused:
        access.take("a")
    assert refused.value.retry_after_s == pytest.approx(0.1)
    access.take("b")
    now[0] += 0.1
    access.take("a")
    with pytest.raises(TooManyRequests):
        access.take("a")


async def test_a_caller_above_the_rate_is_told_when_to_try_again(app, client):
    app.state.parts.access._rate = 0.5
    assert [(await client.get("/v1/tenants")).status_code for _ in range(2)] == [200, 429]
    refused = await client.get("/v1/tenants")
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("name", "role", "tenants"), [("", "admin", []), ("n", "odd", []), ("n", "admin", [""])]
)
def test_unfit_keys_are_refused(name, role, tenants):
    with pytest.raises(InvalidInput):
        new_key(name, role, tenants)
