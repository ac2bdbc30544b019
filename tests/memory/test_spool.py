"""The spool keeps committed entries in order, over crashes, within its bounds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from karen_learner.errors import StoreError
from karen_learner.memory.spool import SUFFIX, TABLE, Spool, erase_spooled

CHILD = """
import asyncio, sys
from pathlib import Path
from karen_learner.memory.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]))
    await spool.open()
    for number in range(10_000):
        if await spool.put([f'"entry {number}"']):
            print(number, flush=True)

asyncio.run(main())
"""


async def bodies(spool: Spool) -> list[str]:
    return [entry.body for entry in await spool.next(after=0, limit=20_000)]


async def test_entries_are_returned_in_order_until_they_are_removed(tmp_path):
    spool = Spool(tmp_path / "spool")
    await spool.open()
    assert all(await asyncio.gather(*(spool.put([f"body {number}"]) for number in range(600))))
    entries = await spool.next(after=0, limit=1_000)
    assert [entry.body for entry in entries] == [f"body {number}" for number in range(600)]
    await spool.remove(entries[:599])
    await spool.remove([])
    assert await bodies(spool) == ["body 599"]
    assert (spool.waiting, spool.bytes) == (1, len("body 599"))
    await spool.set_aside(entries[599], "unusable")
    assert await bodies(spool) == []
    await spool.close()
    await spool.close()
    again = Spool(tmp_path / "spool")
    await again.open()
    assert await bodies(again) == ["body 599"]
    await again.remove(await again.next(after=0, limit=1))
    await again.close()
    assert not list((tmp_path / "spool").iterdir())
    with pytest.raises(StoreError):
        await again.next(after=0, limit=1)


async def test_entries_beyond_the_bounds_are_shed_and_counted(tmp_path):
    spool = Spool(tmp_path, max_entries=3, max_bytes=10)
    await spool.open()
    assert [await spool.put([body]) for body in ("aaaaaaaaaaa", "aaa", "bbb", "cccccc", "ccc", "d")] == [
        False, True, True, False, True, False
    ]  # fmt: skip
    assert spool.shed == 3
    await spool.remove(await spool.next(after=0, limit=1))
    assert await spool.put(["e"])
    await spool.close()


async def test_a_spool_that_cannot_be_written_sheds(tmp_path):
    spool = Spool(tmp_path)
    await spool.open()
    await spool._rows("DROP TABLE entries")
    assert await spool.put(["a"]) is False
    assert (spool.shed, spool.waiting, spool.bytes) == (1, 0, 0)
    await spool._rows(TABLE)
    await spool.close()


async def test_a_running_process_keeps_its_entries(tmp_path):
    first, second = Spool(tmp_path), Spool(tmp_path)
    await first.open()
    await first.put(["mine"])
    await second.open()
    assert await bodies(second) == []
    await second.close()
    assert await bodies(first) == ["mine"]
    await first.close()


async def test_a_foreign_file_is_left_alone(tmp_path):
    foreign = tmp_path / f"foreign{SUFFIX}"
    foreign.write_bytes(b"no database" * 100)
    spool = Spool(tmp_path)
    await spool.open()
    await spool.close()
    assert foreign.exists()


async def test_erased_entries_of_another_process_make_room(tmp_path):
    spool = Spool(tmp_path, max_entries=2)
    await spool.open()
    for turn in ({"user_id": "ann", "user_text": "zebra"}, {"feedback": {}}):
        await spool.put([json.dumps({"tenant_id": "acme", "turn_id": "t", **turn})])
    assert [await erase_spooled(tmp_path, tenant, "ann") for tenant in ("other", "acme")] == [0, 2]
    assert not any(b"zebra" in file.read_bytes() for file in tmp_path.iterdir())
    await spool.count()
    assert await spool.put(["{}"])
    assert spool.waiting == 1
    await spool.close()


async def test_a_cancelled_put_leaves_the_counts_correct(tmp_path):
    spool = Spool(tmp_path)
    await spool.open()
    cancelled = asyncio.create_task(spool.put([json.dumps({"tenant_id": "acme", "user_id": "ann"})]))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await asyncio.gather(cancelled, return_exceptions=True) != [True]
    assert await spool.put(["{}"])  # after the cancelled one
    for entry in await spool.next(after=0, limit=10):
        await spool._rows("DELETE FROM entries WHERE seq = ?", (entry.seq,))
    await spool.count()
    assert (spool.waiting, spool.bytes) == (0, 0)
    await spool.close()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
async def test_no_acknowledged_entry_is_lost_by_a_kill(tmp_path: Path):
    folder, acknowledged = tmp_path / "spool", []
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True
        )
        acknowledged.append([int(child.stdout.readline()) for _ in range(200)])
        os.kill(child.pid, signal.SIGKILL)
        acknowledged[-1] += [int(line) for line in child.communicate()[0].splitlines()]
    spool = Spool(folder)
    await spool.open()
    kept = await bodies(spool)
    for numbers in acknowledged:
        for number in numbers:
            kept.remove(f'"entry {number}"')
    assert len(list(folder.glob(f"*{SUFFIX}"))) == 1
    await spool.close()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
async def test_only_this_user_can_read_the_files(tmp_path):
    spool = Spool(tmp_path / "spool")
    await spool.open()
    await spool.put(["a"])
    for path in ((tmp_path / "spool"), *(tmp_path / "spool").iterdir()):
        assert not path.stat().st_mode & 0o077, path
    await spool.close()
