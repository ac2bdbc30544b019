"""Stores that only read: on request, and from files that cannot be written."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from karen_learner.errors import InvalidInput, StoreReadOnly
from karen_learner.memory import database, open_store
from karen_learner.memory.schema import VERSION_TABLE
from karen_learner.settings import StoreSettings
from tests.memory.memory_specimens import make_turn


@pytest.fixture
async def filled(file: Path, store_settings: StoreSettings) -> Path:
    async with open_store(file, store_settings) as store:
        await store.add_turn(make_turn())
    return file


@pytest.fixture
def unwritable(filled: Path, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A file that the driver refuses to open for writing, as on a full disk, until the list is empty."""
    refusals = [True]
    probe = database.probe

    def refuse(url: object) -> None:
        if refusals:
            raise sqlite3.OperationalError("database or disk is full")
        probe(url)  # type: ignore[arg-type]

    monkeypatch.setattr(database, "probe", refuse)
    monkeypatch.setattr(database, "RETRY_WRITING_S", 0.0)
    return refusals


async def test_a_store_that_only_reads_refuses_to_write(filled: Path, store_settings: StoreSettings) -> None:
    before = filled.read_bytes()
    async with open_store(filled, store_settings, read_only=True) as store:
        assert store.read_only is not None
        assert await store.tenants() == ["acme"]
        with pytest.raises(StoreReadOnly, match=r"karen\.db is opened to read only"):
            await store.add_turn(make_turn("t2"))
        with pytest.raises(StoreReadOnly):
            await store.next_version_number("acme")
        assert await store.get_turn("acme", "t1") is not None
    assert filled.read_bytes() == before
    assert not filled.with_name("karen.db-wal").exists()


async def test_a_reader_sees_the_commits_of_a_writer(filled: Path, store_settings: StoreSettings) -> None:
    async with (
        open_store(filled, store_settings) as writer,
        open_store(filled, store_settings, read_only=True) as reader,
    ):
        await writer.add_turn(make_turn("t2"))
        async with open_store(filled, store_settings, read_only=True) as later:
            assert await later.get_turn("acme", "t2") is not None
        assert await reader.get_turn("acme", "t1") is not None


async def test_a_missing_database_is_not_made_to_read(file: Path, store_settings: StoreSettings) -> None:
    with pytest.raises(StoreReadOnly):
        await open_store(file, store_settings, read_only=True).start()
    assert not file.exists()


async def test_an_earlier_schema_is_not_read(filled: Path, store_settings: StoreSettings) -> None:
    connection = sqlite3.connect(filled)
    connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0005'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreReadOnly, match="earlier release"):
        await open_store(filled, store_settings, read_only=True).start()


async def test_a_file_that_cannot_be_written_is_read_until_it_can(
    filled: Path, store_settings: StoreSettings, unwritable: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with open_store(filled, store_settings) as store:
            assert "disk is full" in (store.read_only or "")
            assert await store.tenants() == ["acme"]
            with pytest.raises(StoreReadOnly, match="disk is full"):
                await store.add_turn(make_turn("t2"))
            unwritable.clear()
            await store.add_turn(make_turn("t2"))
            assert store.read_only is None
            assert await store.get_turn("acme", "t2") is not None
    assert "opened to read only" in caplog.text
    assert "can be written again" in caplog.text


async def test_the_journal_may_use_the_reserve(
    filled: Path, store_settings: StoreSettings, unwritable: list[bool]
) -> None:
    reserve = filled.with_name("karen.db.reserve")
    assert reserve.exists()
    async with open_store(filled, store_settings) as store:
        with pytest.raises(StoreReadOnly):
            await store.end_waiting("acme", release=True)
        assert not reserve.exists()
    unwritable.clear()
    async with open_store(filled, store_settings):
        assert reserve.exists()


async def test_a_new_file_that_cannot_be_written_is_an_error(
    file: Path, store_settings: StoreSettings, unwritable: list[bool]
) -> None:
    file.unlink()
    with pytest.raises(Exception, match="disk is full"):
        await open_store(file, store_settings).start()


@pytest.mark.parametrize("name", ["a b", "a?b", "a#b", "a%20b", "ä&=:@", "~x"])
async def test_any_name_of_a_folder_can_be_read(
    tmp_path: Path, store_settings: StoreSettings, name: str
) -> None:
    file = tmp_path / name / "karen.db"
    async with open_store(file, store_settings) as store:
        await store.add_turn(make_turn())
        await store.snapshot(tmp_path / "copy.db")
    for place in (file, tmp_path / "copy.db"):
        async with open_store(place, store_settings, read_only=True) as store:
            assert await store.get_turn("acme", "t1") is not None


async def test_a_database_without_a_file_has_no_snapshot(
    tmp_path: Path, store_settings: StoreSettings
) -> None:
    async with open_store(":memory:", store_settings) as store:
        with pytest.raises(InvalidInput, match="pg_dump"):
            await store.snapshot(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
