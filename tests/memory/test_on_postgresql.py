"""The store on a PostgreSQL server: lost connections, locks, access."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from karen_learner.errors import InvalidInput, StoreError, StoreLocked, StoreNotOurs, StoreReadOnly
from karen_learner.memory import open_store
from karen_learner.memory.database import _lock_key
from karen_learner.records import CurationWrite
from karen_learner.settings import StoreSettings
from tests.databases import SERVER, a_database
from tests.memory.memory_specimens import make_cycle, make_example, make_turn

pytestmark = pytest.mark.skipif(not SERVER, reason="KAREN_TEST_POSTGRES names no server")


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with a_database("postgresql", tmp_path) as place:
        yield str(place)


@pytest.fixture
async def other(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection outside the store; each statement is a transaction."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def end_connections(other: AsyncConnection, *, waiting: bool = False) -> int:
    """End all others, or only those that wait for a lock; how many there were."""
    which = "wait_event_type = 'Lock'" if waiting else "true"
    ended = await other.exec_driver_sql(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE datname = current_database() AND pid <> pg_backend_pid() AND {which}"
    )
    return len(ended.all())


async def test_a_lost_connection_is_replaced(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    async with open_store(url, store_settings) as store:
        for n in range(3):
            await store.add_turn(make_turn(f"t{n}"))
            assert (await store.counts("acme")).turns == n + 1
            await end_connections(other)
        assert await store.next_version_number("acme") == 1


async def test_a_pooler_that_forgets_prepared_statements_is_named(
    url: str, store_settings: StoreSettings
) -> None:
    """As PgBouncer in transaction mode, which changes the server's connection between two transactions."""

    def forget(connection: Connection) -> None:
        connection.exec_driver_sql("DEALLOCATE ALL")

    async with open_store(url, store_settings) as store:
        await store.add_turn(make_turn("t1"))
        await store._database.write(None, forget)
        with pytest.raises(StoreError, match="pool_mode = session"):
            await store.add_turn(make_turn("t2"))


async def test_an_error_quotes_no_values_of_a_row(url: str, store_settings: StoreSettings) -> None:
    def insert(connection: Connection) -> None:
        statement = "INSERT INTO tenants (name, last_version_number) VALUES (:name, NULL)"
        connection.execute(text(statement), {"name": "my secret"})

    async with open_store(url, store_settings) as store:
        with pytest.raises(StoreError, match="last_version_number") as raised:
            await store._database.write(None, insert)
    assert "secret" not in str(raised.value)


async def test_a_connection_lost_during_a_transaction_is_reported(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    async with open_store(url, store_settings) as store, other.engine.connect() as holder:
        await store.add_turn(make_turn())
        await holder.exec_driver_sql("BEGIN")
        await holder.exec_driver_sql("LOCK TABLE counters IN EXCLUSIVE MODE")
        adding = asyncio.ensure_future(store.add_turn(make_turn("t2")))
        while not await end_connections(other, waiting=True):
            await asyncio.sleep(0.01)
        with pytest.raises(StoreError, match="refused"):
            await adding
        await holder.exec_driver_sql("ROLLBACK")
        assert (await store.counts("acme")).turns == 1
        assert await store.add_turn(make_turn("t2"))


async def test_a_writer_waits_at_most_for_the_busy_timeout(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    store_settings.update({"busy_timeout_s": 0.05})
    async with open_store(url, store_settings) as store:
        await store.add_turn(make_turn())
        await other.exec_driver_sql("SELECT pg_advisory_lock(5498114)")
        answers = await asyncio.gather(
            *(store.add_turn(make_turn(f"t{n}")) for n in range(9)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {StoreLocked}
        with pytest.raises(StoreLocked, match="busy_timeout_s"):
            await open_store(url, store_settings).start()
        assert await store.get_turn("acme", "t1") is not None
        await other.exec_driver_sql("SELECT pg_advisory_unlock(5498114)")
        assert await store.add_turn(make_turn("t2"))


async def wait_for_lock(other: AsyncConnection) -> None:
    """Return once a transaction waits for a lock."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(60):
        while not (await other.exec_driver_sql(waiting)).scalar():
            await asyncio.sleep(0.01)


async def test_transactions_of_one_tenant_exclude_each_other_and_no_other_tenant(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    async with open_store(url, store_settings) as store, open_store(url, store_settings) as second:
        await store.add_turn(make_turn())
        await other.exec_driver_sql(
            f"SELECT pg_advisory_lock_shared(5498114), pg_advisory_lock(5498114, {_lock_key('acme')})"
        )
        held = asyncio.ensure_future(store.add_turn(make_turn("t2")))
        await wait_for_lock(other)
        assert await second.add_turn(make_turn("u1", tenant="other"))
        assert await second.acquire_lease("other", "far/1/a", ttl=timedelta(seconds=60))
        assert not held.done()
        await other.exec_driver_sql("SELECT pg_advisory_unlock_all()")
        assert (await held).turn_id == "t2"


async def test_starting_a_cycle_waits_for_every_transaction(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    async with open_store(url, store_settings) as store:
        await other.exec_driver_sql("SELECT pg_advisory_lock_shared(5498114)")
        starting = asyncio.ensure_future(store.start_cycle(make_cycle()))
        await wait_for_lock(other)
        assert not starting.done()
        await other.exec_driver_sql("SELECT pg_advisory_unlock_all()")
        await starting
        assert len(await store.unfinished_cycles("acme")) == 1


async def test_batches_of_overlapping_tenants_do_not_deadlock(
    url: str, store_settings: StoreSettings
) -> None:
    names = [f"tenant {n}" for n in range(9)]
    async with open_store(url, store_settings) as one, open_store(url, store_settings) as two:
        await asyncio.gather(
            *(one.add_turn(make_turn(f"a{n}", tenant=name)) for n in range(20) for name in names),
            *(two.add_turn(make_turn(f"b{n}", tenant=name)) for n in range(20) for name in reversed(names)),
        )
        assert await one.total_turns() == 2 * 20 * 9


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_writers_exclude_each_other_at_any_default_isolation(
    url: str, store_settings: StoreSettings, other: AsyncConnection, level: str
) -> None:
    name = make_url(url).database
    await other.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    async with open_store(url, store_settings) as one, open_store(url, store_settings) as two:
        numbers = await asyncio.gather(
            *(store.next_version_number("acme") for _ in range(20) for store in (one, two))
        )
    assert sorted(numbers) == list(range(1, 41))


async def test_a_refused_item_fails_alone(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    long = "".join(chr(0x4E00 + 7919 * n % 20000) for n in range(3000))
    async with open_store(url, store_settings) as store:
        await other.exec_driver_sql("ALTER TABLE turns ADD CHECK (turn_id <> 'not this one')")
        names = ["a", "not this one", "b", long, "c"]
        answers = await asyncio.gather(*(store.add_turn(make_turn(n)) for n in names), return_exceptions=True)
        assert isinstance(answers[1], StoreError)
        assert isinstance(answers[3], InvalidInput)
        assert [turn.turn_id async for turn in store.turns("acme")] == ["a", "b", "c"]
        await other.exec_driver_sql("ALTER TABLE examples ADD CHECK (example_id <> 'bad')")
        write = CurationWrite(upserts=[make_example("good"), make_example("bad")])
        with pytest.raises(StoreError, match="refused"):
            await store.save_curation("acme", write)
        assert (await store.counts("acme")).examples == {}


async def test_a_read_only_database_is_reported(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    name = make_url(url).database
    await other.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(StoreReadOnly, match="read-only"):
        await open_store(url, store_settings).start()


async def test_a_foreign_database_is_refused(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    await other.exec_driver_sql("CREATE TABLE customers (id INTEGER)")
    with pytest.raises(StoreNotOurs, match="customers"):
        await open_store(url, store_settings).start()


async def test_a_missing_database_user_or_server_is_reported(url: str, store_settings: StoreSettings) -> None:
    for part, wrong, message in (
        ("database", "karen_nowhere", "createdb"),
        ("username", "karen_nobody", "pg_hba"),
        ("port", 1, "cannot be reached"),
    ):
        place = make_url(url).set(**{part: wrong})  # type: ignore[arg-type]
        with pytest.raises(StoreError, match=message):
            await open_store(place.render_as_string(hide_password=False), store_settings).start()
