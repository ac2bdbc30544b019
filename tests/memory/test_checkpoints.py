"""Checkpoints of the write-ahead log."""

from pathlib import Path

from karen_learner.memory import open_store
from karen_learner.memory.database import COMMITS_PER_CHECKPOINT, CheckpointSchedule
from karen_learner.settings import load_settings
from tests.memory.memory_specimens import make_turn


def test_a_checkpoint_begins_after_every_16_commits_and_never_while_another_runs() -> None:
    schedule = CheckpointSchedule()
    assert [schedule.after_commit() for _ in range(COMMITS_PER_CHECKPOINT)] == [False] * (
        COMMITS_PER_CHECKPOINT - 1
    ) + [True]
    assert not any(
        schedule.after_commit() for _ in range(2 * COMMITS_PER_CHECKPOINT)
    )  # the first is still running
    schedule.done()
    assert schedule.after_commit()


async def test_turns_reach_the_database_file_while_the_store_is_open(tmp_path: Path) -> None:
    file = tmp_path / "karen.db"
    async with open_store(file, load_settings().store) as store:
        before = file.stat().st_size
        for number in range(4 * COMMITS_PER_CHECKPOINT):
            await store.add_turn(make_turn(f"t{number}", text="word " * 500))
        assert file.stat().st_size > before
        assert (await store.counts("acme")).turns == 4 * COMMITS_PER_CHECKPOINT
