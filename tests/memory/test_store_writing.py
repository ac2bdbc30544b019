"""Durability and concurrency of the real store: bad items, cancellation, several processes, kill -9."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from karen_learner.errors import LearnerClosed, StoreError
from karen_learner.memory import open_store
from karen_learner.records import CurationWrite, UserFeedback
from karen_learner.settings import StoreSettings
from tests.memory.memory_specimens import make_contribution, make_example, make_turn

LIKED = UserFeedback(satisfaction_score=0.9)

WRITING = """
import asyncio, sys
from tests.memory.memory_specimens import make_turn
from karen_learner.memory import open_store
from karen_learner.settings import load_settings

async def caller(store, name, count):
    for n in range(count):
        turn = await store.add_turn(make_turn(f"{name}-{n}"))
        print(turn.turn_id, turn.seq, flush=True)

async def main(place, prefix, count):
    async with open_store(place, load_settings(environment={}).store) as store:
        await asyncio.gather(*(caller(store, f"{prefix}{c}", count) for c in range(8)))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def writing_process(place: Path | str, prefix: str, count: int) -> subprocess.Popen[str]:
    """A process in which eight callers add `count` turns each and print those acknowledged."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITING, str(place), prefix, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )


async def test_the_store_writes_again_after_repeated_failures_to_lock(
    tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path / "karen.db", store_settings) as store:

        def fails(*_: object) -> None:
            raise DBAPIError("LOCK", {}, Exception("gone"), connection_invalidated=True)

        with monkeypatch.context() as patch:
            patch.setattr(store._database, "_lock", fails)
            with pytest.raises(StoreError):
                await store.next_version_number("acme")
        assert await store.next_version_number("acme") == 1


def refuse(file: Path, name: str) -> None:
    """Make the database refuse any turn of that id."""
    connection = sqlite3.connect(file)
    connection.execute(
        f"CREATE TRIGGER refusal BEFORE INSERT ON turns WHEN NEW.turn_id = '{name}' "
        "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    )
    connection.commit()
    connection.close()


@pytest.mark.parametrize("tenant_is_known", [True, False])
async def test_one_bad_turn_fails_alone(
    file: Path, store_settings: StoreSettings, tenant_is_known: bool
) -> None:
    async with open_store(file, store_settings) as store:
        if tenant_is_known:
            await store.add_turn(make_turn("before"))
        refuse(file, "t3")
        turns = [make_turn(f"t{n}", feedback=LIKED) for n in range(6)]
        answers = await asyncio.gather(*map(store.add_turn, turns), return_exceptions=True)
        assert isinstance(answers[3], StoreError)
        assert "not this one" in str(answers[3])
        assert [answer.turn_id for n, answer in enumerate(answers) if n != 3] == [
            "t0",
            "t1",
            "t2",
            "t4",
            "t5",
        ]
        assert (await store.counts("acme")).turns == 5 + tenant_is_known
        assert (await store.counts("acme")).awaiting_curation == 5


async def test_a_failed_transaction_leaves_nothing(file: Path, store_settings: StoreSettings) -> None:
    async with open_store(file, store_settings) as store:
        await store.add_turn(make_turn())
        connection = sqlite3.connect(file)
        connection.execute(
            "CREATE TRIGGER refusal BEFORE INSERT ON examples WHEN NEW.example_id = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
        connection.commit()
        connection.close()
        write = CurationWrite(upserts=[make_example("good"), make_example("bad")])
        with pytest.raises(StoreError, match="not this one"):
            await store.save_curation("acme", write)
        assert (await store.counts("acme")).examples == {}
        await store.save_curation("acme", CurationWrite(upserts=[make_example("good")]))
        assert (await store.counts("acme")).examples == {"pending": 1}


async def test_cancelled_callers_do_not_affect_others(
    shared: Path | str, store_settings: StoreSettings
) -> None:
    async with open_store(shared, store_settings) as store:
        adding = [asyncio.ensure_future(store.add_turn(make_turn(f"t{n}"))) for n in range(30)]
        reading = [asyncio.ensure_future(store.counts("acme")) for _ in range(10)]
        saving = asyncio.ensure_future(store.save_curation("acme", CurationWrite(upserts=[make_example()])))
        await asyncio.sleep(0)
        for task in (*adding[::3], *reading[::2], saving):
            task.cancel()
        answers = await asyncio.gather(*adding, *reading, return_exceptions=True)
        rest = [answer for answer in answers if not isinstance(answer, asyncio.CancelledError)]
        assert not [answer for answer in rest if isinstance(answer, BaseException)]
        await store.add_turn(make_turn("last"))
        assert (await store.counts("acme")).turns == len([turn async for turn in store.turns("acme")])


async def test_the_store_works_after_cancellation_at_any_point(
    shared: Path | str, store_settings: StoreSettings
) -> None:
    async with open_store(shared, store_settings) as store:
        for steps in range(40):
            tasks = [
                asyncio.ensure_future(store.counts("acme")),
                asyncio.ensure_future(store.next_version_number("acme")),
                asyncio.ensure_future(store.add_turn(make_turn(f"t{steps}"))),
            ]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await store.add_turn(make_turn("last"))
        assert (await store.counts("acme")).turns == len([turn async for turn in store.turns("acme")])


async def test_acknowledged_turns_survive_kill_9(shared: Path | str, store_settings: StoreSettings) -> None:
    process = writing_process(shared, "p", 100_000)
    assert process.stdout is not None
    lines = [await asyncio.to_thread(process.stdout.readline) for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    rest, _ = await asyncio.to_thread(process.communicate)
    printed = "".join(lines) + rest
    acknowledged = dict(line.split() for line in printed[: printed.rindex("\n")].splitlines())
    assert len(acknowledged) >= 300
    async with open_store(shared, store_settings) as store:
        kept = {turn.turn_id: str(turn.seq) async for turn in store.turns("acme")}
        assert acknowledged.items() <= kept.items()
        assert (await store.counts("acme")).turns == len(kept)


async def test_two_processes_write_one_database(shared: Path | str, store_settings: StoreSettings) -> None:
    processes = [writing_process(shared, prefix, 30) for prefix in "ab"]
    printed = [await asyncio.to_thread(process.communicate) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    acknowledged = [line.split() for output, _ in printed for line in output.splitlines()]
    assert len({seq for _, seq in acknowledged}) == 2 * 8 * 30
    async with open_store(shared, store_settings) as store:
        kept = {turn.turn_id: str(turn.seq) async for turn in store.turns("acme")}
        assert kept == dict(acknowledged)
        assert (await store.counts("acme")).turns == 2 * 8 * 30


async def test_two_stores_merge_turns_and_feedback(shared: Path | str, store_settings: StoreSettings) -> None:
    async with open_store(shared, store_settings) as one, open_store(shared, store_settings) as two:
        first = await one.add_turn(make_turn())
        assert await two.add_turn(make_turn(feedback=LIKED)) == first.model_copy(
            update={
                "feedback": LIKED,
                "metadata": first.metadata.model_copy(
                    update={"feedback_provided": True, "user_satisfaction": 0.9}
                ),
            }
        )
        await asyncio.gather(
            *(one.add_turn(make_turn(f"t{n}")) for n in range(50)),
            *(two.add_turn(make_turn(f"t{n}", feedback=LIKED)) for n in range(50)),
        )
        counts = await one.counts("acme")
        assert (counts.turns, counts.with_feedback, counts.awaiting_curation) == (50, 50, 50)


async def test_withdrawn_text_is_not_in_the_files(file: Path, store_settings: StoreSettings) -> None:
    secret = "my-secret-phrase-4711"
    async with open_store(file, store_settings) as store:
        await store.add_turn(make_turn(text=f"{secret} in Rome", feedback=UserFeedback(comment=secret)))
        example = make_example(turn_id="t1", text=secret, key=secret, group=secret)
        contribution = make_contribution("t1", text=secret, intent=secret, key=secret)
        await store.save_curation("acme", CurationWrite(upserts=[example], contributions=[contribution]))
        await store.add_feedback("acme", "t1", UserFeedback(consent=False))
    assert secret.encode() not in file.read_bytes()


async def test_a_closing_store_refuses_new_callers(shared: Path | str, store_settings: StoreSettings) -> None:
    store = open_store(shared, store_settings)
    await store.start()
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    with pytest.raises(LearnerClosed):
        await store.add_turn(make_turn())
    await closing
