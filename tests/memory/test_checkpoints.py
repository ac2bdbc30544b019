"""Checkpoints of the write-ahead log."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from karen_learner.memory import open_store
from karen_learner.memory.database import COMMITS_PER_CHECKPOINT, Database
from karen_learner.memory.engine import WRITER_PRAGMAS, empty_log, parse_url
from karen_learner.settings import load_settings
from tests.memory.memory_specimens import make_turn


async def test_a_checkpoint_begins_after_every_16_commits_and_never_while_another_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(parse_url(tmp_path / "karen.db"), busy_timeout_s=5)
    await database.start()
    begun, release = [], asyncio.Event()

    async def wait(*_: object) -> None:
        begun.append("checkpoint")
        await release.wait()

    async def commit(times: int) -> None:
        for _ in range(times):
            await database.write((), lambda _connection: None)

    monkeypatch.setattr(database, "_read", wait)
    await commit(COMMITS_PER_CHECKPOINT)  # the migration was a commit, too
    assert len(begun) == 1
    await commit(2 * COMMITS_PER_CHECKPOINT)
    assert len(begun) == 1
    release.set()
    await commit(COMMITS_PER_CHECKPOINT)
    assert len(begun) == 2
    await database.close()


async def test_turns_reach_the_database_file_while_the_store_is_open(tmp_path: Path) -> None:
    file = tmp_path / "karen.db"
    async with open_store(file, load_settings().store) as store:
        before = file.stat().st_size
        for number in range(4 * COMMITS_PER_CHECKPOINT):
            await store.add_turn(make_turn(f"t{number}", text="word " * 500))
        assert file.stat().st_size > before
        assert (await store.counts("acme")).turns == 4 * COMMITS_PER_CHECKPOINT


def test_a_log_that_a_reader_needs_is_emptied_later(tmp_path: Path) -> None:
    file = tmp_path / "words.db"
    log = file.with_name("words.db-wal")
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        for statement in (
            *WRITER_PRAGMAS,
            "CREATE TABLE words (word)",
            "INSERT INTO words VALUES ('secret')",
        ):
            writer.execute(statement)
        with closing(sqlite3.connect(file, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM words").fetchall()
            writer.execute("DELETE FROM words")
            assert not empty_log(file, 0.0)
            assert b"secret" in log.read_bytes()
        assert empty_log(file, 0.0)
        assert b"secret" not in file.read_bytes() + log.read_bytes()
