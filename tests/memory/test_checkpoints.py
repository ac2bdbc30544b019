"""The write-ahead log is carried over beside the writer."""

from pathlib import Path

from karen_learner.memory import open_store
from karen_learner.memory.checkpoints import EVERY, CheckpointDue
from karen_learner.settings import load_settings
from tests.memory.memory_specimens import make_turn


def test_due_once_in_so_many_transactions_and_never_twice_at_once() -> None:
    due = CheckpointDue()
    assert [due.after_commit() for _ in range(EVERY)] == [False] * (EVERY - 1) + [True]
    assert not any(due.after_commit() for _ in range(2 * EVERY))  # one still runs
    due.done()
    assert due.after_commit()


async def test_turns_reach_the_database_file_while_the_store_is_open(tmp_path: Path) -> None:
    file = tmp_path / "karen.db"
    async with open_store(file, load_settings().store) as store:
        before = file.stat().st_size
        for number in range(4 * EVERY):
            await store.add_turn(make_turn(f"t{number}", text="word " * 500))
        assert file.stat().st_size > before
        assert (await store.counts("acme")).turns == 4 * EVERY
