"""What only a server can do to a store: lose it, keep it waiting, or not let it in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from karen_learner.errors import InvalidInput, StoreError, StoreLocked, StoreNotOurs, StoreReadOnly
from karen_learner.memory import open_store
from karen_learner.memory.schema import VERSION_TABLE
from karen_learner.memory.tables import metadata
from karen_learner.records import CurationWrite
from karen_learner.settings import StoreSettings
from tests.databases import SERVER, a_database
from tests.memory.memory_specimens import make_example, make_turn

pytestmark = pytest.mark.skipif(not SERVER, reason="KAREN_TEST_POSTGRES names no server")


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with a_database("postgresql", tmp_path) as place:
        yield str(place)


@pytest.fixture
async def other(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection of somebody else, each of whose statements is a transaction."""
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


async def test_migrations_make_what_the_tables_say(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    async with open_store(url, store_settings):
        assert await other.run_sync(differences) == []


async def test_a_lost_connection_is_made_again(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    async with open_store(url, store_settings) as store:
        for n in range(3):
            await store.add_turn(make_turn(f"t{n}"))
            assert (await store.counts("acme")).turns == n + 1
            await end_connections(other)
        assert await store.next_version_number("acme") == 1


async def test_one_that_is_lost_during_a_transaction_is_told(
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


async def test_a_database_of_the_first_schema_is_brought_up_to_date(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    async with open_store(url, store_settings) as store:
        await store.save_curation("acme", CurationWrite(upserts=[make_example()]))
    for statement in (
        "DROP TABLE heard_turns",
        f"UPDATE {VERSION_TABLE} SET version_num = '0001'",
    ):
        await other.exec_driver_sql(statement)
    async with open_store(url, store_settings) as store:
        assert await store.examples_by_key("acme", ["key-e1"])


async def test_a_database_that_tells_of_moods_serves_without_them(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    async with open_store(url, store_settings) as store:
        await store.add_turn(make_turn())
        await store.save_curation("acme", CurationWrite(upserts=[make_example()]))
    for statement in (
        "ALTER TABLE examples ADD COLUMN mood TEXT",
        """UPDATE examples SET mood = '{"negative": 0.5}'""",
        """UPDATE turns SET body = replace(body, '"feedback":', '"mood":{"negative":0.5},"feedback":')""",
        f"UPDATE {VERSION_TABLE} SET version_num = '0003'",
    ):
        await other.exec_driver_sql(statement)
    async with open_store(url, store_settings) as store:
        assert [turn.turn_id async for turn in store.turns("acme")] == ["t1"]
        assert await store.examples_by_key("acme", ["key-e1"])
        assert await store.save_curation("acme", CurationWrite(upserts=[make_example("new")]))


async def test_a_writer_waits_no_longer_than_it_should(
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


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_writers_take_turns_whatever_isolation_is_usual(
    url: str, store_settings: StoreSettings, other: AsyncConnection, level: str
) -> None:
    name = make_url(url).database
    await other.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    async with open_store(url, store_settings) as one, open_store(url, store_settings) as two:
        numbers = await asyncio.gather(
            *(store.next_version_number("acme") for _ in range(20) for store in (one, two))
        )
    assert sorted(numbers) == list(range(1, 41))


async def test_what_is_refused_is_refused_alone(
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
        outcome = CurationWrite(upserts=[make_example("good"), make_example("bad")])
        with pytest.raises(StoreError, match="refused"):
            await store.save_curation("acme", outcome)
        assert (await store.counts("acme")).examples == {}


async def test_a_database_that_cannot_be_written_is_told(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    name = make_url(url).database
    await other.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(StoreReadOnly, match="read-only"):
        await open_store(url, store_settings).start()


async def test_a_database_of_something_else_is_refused(
    url: str, store_settings: StoreSettings, other: AsyncConnection
) -> None:
    await other.exec_driver_sql("CREATE TABLE customers (id INTEGER)")
    with pytest.raises(StoreNotOurs, match="customers"):
        await open_store(url, store_settings).start()


async def test_what_is_not_there_is_told(url: str, store_settings: StoreSettings) -> None:
    for part, wrong, told in (
        ("database", "karen_nowhere", "createdb"),
        ("username", "karen_nobody", "pg_hba"),
        ("port", 1, "cannot be reached"),
    ):
        place = make_url(url).set(**{part: wrong})  # type: ignore[arg-type]
        with pytest.raises(StoreError, match=told):
            await open_store(place.render_as_string(hide_password=False), store_settings).start()
