"""Opening: fresh, current, newer and foreign databases, and those that cannot be written."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from karen_learner.errors import (
    SchemaTooNew,
    SettingsError,
    StoreError,
    StoreLocked,
    StoreNotOurs,
    StoreReadOnly,
)
from karen_learner.memory import open_store
from karen_learner.memory.alembic_steps import scripts
from karen_learner.memory.engine import create_engines, parse_url
from karen_learner.memory.schema import APPLICATION_ID, VERSION_TABLE
from karen_learner.settings import StoreSettings
from tests.memory.memory_specimens import make_turn


async def filled(place: Path | str, settings: StoreSettings) -> None:
    async with open_store(place, settings) as store:
        await store.add_turn(make_turn())


def execute(file: Path, *statements: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(file)
    try:
        rows = [connection.execute(statement).fetchall() for statement in statements][-1]
        connection.commit()
    finally:
        connection.close()
    return rows


async def test_a_new_file_is_made_with_its_folder(tmp_path: Path, store_settings: StoreSettings) -> None:
    file = tmp_path / "a" / "b" / "karen.db"
    await filled(file, store_settings)
    assert execute(file, "PRAGMA journal_mode") == [("wal",)]
    assert execute(file, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert execute(file, f"SELECT * FROM {VERSION_TABLE}") == [(scripts().get_current_head(),)]


async def test_a_current_file_is_not_changed(file: Path, store_settings: StoreSettings) -> None:
    await filled(file, store_settings)
    before = execute(file, "SELECT type, name, sql FROM sqlite_master ORDER BY name")
    async with open_store(str(file), store_settings) as store:
        assert await store.get_turn("acme", "t1") is not None
    assert execute(file, "SELECT type, name, sql FROM sqlite_master ORDER BY name") == before


async def test_a_url_opens_the_same_database(file: Path, store_settings: StoreSettings) -> None:
    await filled(file, store_settings)
    for url in (f"sqlite:///{file}", f"sqlite+aiosqlite:///{file}"):
        async with open_store(url, store_settings) as store:
            assert await store.tenants() == ["acme"]


async def test_a_newer_schema_is_refused(file: Path, store_settings: StoreSettings) -> None:
    await filled(file, store_settings)
    execute(file, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match=r"9999.*upgrade karen_learner"):
        await open_store(file, store_settings).start()


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE customers (id INTEGER)", "PRAGMA application_id = 1196437808"]
)
async def test_a_foreign_database_is_refused_untouched(
    file: Path, store_settings: StoreSettings, statement: str
) -> None:
    execute(file, statement)
    before = file.read_bytes()
    with pytest.raises(StoreNotOurs, match="another program"):
        await open_store(file, store_settings).start()
    assert file.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused(file: Path, store_settings: StoreSettings) -> None:
    file.write_text("Dear diary, " * 1000)
    with pytest.raises(StoreNotOurs, match="not a database"):
        await open_store(file, store_settings).start()


async def test_a_read_only_database_is_reported(file: Path, store_settings: StoreSettings) -> None:
    await filled(file, store_settings)
    url = f"sqlite+aiosqlite:///file:{file}?mode=ro&uri=true"
    with pytest.raises(StoreReadOnly, match=r"karen\.db.*right to write"):
        await open_store(url, store_settings).start()


async def test_a_folder_that_cannot_be_made_is_reported(
    tmp_path: Path, store_settings: StoreSettings
) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StoreReadOnly, match="choose another path"):
        await open_store(tmp_path / "taken" / "karen.db", store_settings).start()
    with pytest.raises(StoreReadOnly, match="cannot be opened"):
        await open_store(tmp_path, store_settings).start()


async def test_a_locked_database_is_reported(file: Path, store_settings: StoreSettings) -> None:
    store_settings.update({"busy_timeout_s": 0.05})
    async with open_store(file, store_settings) as store:
        await store.add_turn(make_turn())
        holder = sqlite3.connect(file, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        answers = await asyncio.gather(
            *(store.add_turn(make_turn(f"t{n}")) for n in range(9)), return_exceptions=True
        )
        with pytest.raises(StoreLocked, match=r"karen\.db.*busy_timeout_s"):
            await store.next_version_number("acme")
        with pytest.raises(StoreLocked):
            await open_store(file, store_settings).start()
        assert await store.get_turn("acme", "t1") is not None
        holder.rollback()
        holder.close()
        assert {type(answer) for answer in answers} == {StoreLocked}
        assert await store.add_turn(make_turn("t2"))


async def test_a_new_file_with_a_lock_is_reported(file: Path, store_settings: StoreSettings) -> None:
    store_settings.update({"busy_timeout_s": 0.05})
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store = open_store(file, store_settings)
    with pytest.raises(StoreLocked, match=r"karen\.db.*busy_timeout_s"):
        await store.start()
    holder.close()
    async with store:
        assert await store.add_turn(make_turn())


async def test_a_store_that_is_not_started_is_reported(store_settings: StoreSettings) -> None:
    store = open_store(":memory:", store_settings)
    with pytest.raises(StoreError, match="async with"):
        await store.counts("acme")
    with pytest.raises(StoreError, match="async with"):
        await store.add_turn(make_turn())
    await store.close()


@pytest.mark.parametrize("url", ["mysql://host/db", "://", "oracle+x://"])
def test_other_databases_are_refused(store_settings: StoreSettings, url: str) -> None:
    with pytest.raises(SettingsError, match=r"store\.url"):
        open_store(url, store_settings)


def test_a_password_is_not_shown(
    store_settings: StoreSettings,
) -> None:
    store = open_store("postgresql://me:secret@host/db", store_settings)
    assert "secret" not in repr(store)


def test_without_its_driver_postgresql_is_refused(
    store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(SettingsError, match=r"karen-learner\[postgres\]"):
        open_store("postgresql://host/db", store_settings)


def test_options_of_libpq_get_the_names_of_the_driver() -> None:
    url = parse_url("postgres://me@host/db?sslmode=require&prepared_statement_cache_size=0")
    assert url == make_url("postgresql+asyncpg://me@host/db?ssl=require&prepared_statement_cache_size=0")


async def test_many_stores_open_one_new_database_at_once(
    shared: Path | str, store_settings: StoreSettings
) -> None:
    stores = [open_store(shared, store_settings) for _ in range(5)]
    await asyncio.gather(*(store.start() for store in stores))
    await asyncio.gather(*(store.add_turn(make_turn(f"t{n}")) for n, store in enumerate(stores)))
    assert (await stores[0].counts("acme")).turns == 5
    await asyncio.gather(*(store.close() for store in stores))


async def test_opening_prints_and_logs_nothing(
    shared: Path | str,
    store_settings: StoreSettings,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    handlers = list(logging.getLogger().handlers)
    with caplog.at_level(logging.WARNING):
        await filled(shared, store_settings)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger().handlers == handlers
    assert not logging.getLogger("karen_learner.memory").disabled


async def test_errors_of_statements_quote_no_values(shared: Path | str) -> None:
    engines = create_engines(parse_url(shared), busy_timeout_s=1)
    try:
        async with engines.writer.connect() as connection:
            with pytest.raises(DBAPIError) as raised:
                await connection.execute(text("SELECT :value FROM missing"), {"value": "my secret"})
    finally:
        await engines.dispose()
    assert "missing" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_wrong_port_quotes_no_part_of_a_password() -> None:
    with pytest.raises(SettingsError, match="port is no number") as raised:
        parse_url("postgresql://me@host:se:cret/db")
    assert "cret" not in str(raised.value)
