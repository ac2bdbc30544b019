"""API keys, sessions and the audit log, on each store."""

from datetime import timedelta

from karen_learner.records import utc_now
from karen_learner.records.access import ApiKey, AuditEntry, Session

NOW = utc_now()


def key(number: int, **more) -> ApiKey:
    values = {"key_id": f"k{number}", "name": "a\0b", "digest": "d", "role": "host", "created_at": NOW}
    return ApiKey(**{**values, **more})


async def test_keys_are_kept_in_order_and_revoked_once(store):
    first, second = key(1, tenants=("a", "b,c")), key(2, created_at=NOW - timedelta(days=1))
    for one in (first, second):
        await store.add_api_key(one)
    assert await store.api_keys() == [second, first]
    assert await store.revoke_api_key("k1", at=NOW)
    assert not await store.revoke_api_key("k1", at=NOW)
    assert not await store.revoke_api_key("k3", at=NOW)
    assert (await store.api_keys())[1].revoked_at == NOW


async def test_the_audit_log_is_read_in_pages_and_pruned(store):
    entries = [
        AuditEntry(
            at=NOW + timedelta(hours=n), caller="k", tenant_id=None if n % 2 else "a", request="r", status=200
        )
        for n in range(6)
    ]
    await store.add_audit(entries)
    await store.add_audit([])
    newest = await store.audit(limit=4)
    assert [entry for _, entry in newest] == entries[:1:-1]
    assert [entry for _, entry in await store.audit(before=newest[-1][0])] == entries[1::-1]
    assert [entry for _, entry in await store.audit(tenant_id="a")] == entries[4::-2]
    assert await store.prune_audit(before=NOW + timedelta(hours=4)) == 4
    assert [entry for _, entry in await store.audit()] == entries[:3:-1]


async def test_sessions_end_and_expired_ones_are_removed(store):
    first = Session(digest="a", key_id="k1", expires_at=NOW + timedelta(hours=1))
    second = Session(digest="b", key_id="k1", expires_at=NOW + timedelta(hours=3))
    await store.add_session(first, now=NOW)
    assert await store.session("a") == first
    assert await store.session("b") is None
    await store.add_session(second, now=NOW + timedelta(hours=2))
    assert await store.session("a") is None
    await store.end_session("b")
    assert await store.session("b") is None
