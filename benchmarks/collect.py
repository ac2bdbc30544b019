"""Durable turns a second, and waiting times of callers.

    python benchmarks/collect.py [--store] [--analysis]

Default: both. `--store` measures the memory store alone: each caller awaits its `add_turn` before the next.
Peers in the same run, on the same tables and pragmas: one transaction per turn through SQLAlchemy on
aiosqlite, and through plain aiosqlite. Rounds alternate. Turn ids are those of the collector; `--random-ids`
uses random ones.

`--analysis` measures whole turns: `collect_conversation_metadata` of the same callers (three pipes,
linguistic features, durable storage), compared with bare `nlp.pipe` with the same model and texts. `--stock`
uses spaCy's own pipes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiosqlite
import spacy
from sqlalchemy import Connection

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.corpora.importers import iter_labelled, required
from karen_learner.memory import SqlMemoryStore, counters, open_store, turn_writer
from karen_learner.memory.engine import WRITER_PRAGMAS, Engines, create_engines, parse_url
from karen_learner.records import ConversationMetadata, Entity, Turn, UserFeedback, new_id, utc_now
from karen_learner.settings import load_settings

TENANT = "tenant_123"
TARGET_PER_S = 20_000
TARGET_P99_MS = 10.0
TARGET_RATIO = 20.0
TARGET_OF_BARE = 0.8
CORPUS = Path(__file__).parent.parent / "corpus" / "telecom" / "train.jsonl"

PEERS = ("a transaction per turn, SQLAlchemy", "a transaction per turn, aiosqlite")

Add = Callable[[Turn], Awaitable[object]]


@dataclass
class Measured:
    """Turns a second by round, and waiting times of all calls in seconds."""

    rates: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def wait_ms(self, share: float) -> float:
        """The quantile of the waiting times, in milliseconds."""
        return sorted(self.waits)[min(int(share * len(self.waits)), len(self.waits) - 1)] * 1e3


TEXT = "How do I optimize this Python code?"


def make_turn(*, with_feedback: bool = True, make_id: Callable[[], str] = new_id, text: str = TEXT) -> Turn:
    """A turn of about 1 kB as JSON, with its own id."""
    feedback = UserFeedback(satisfaction_score=0.9, response_quality=0.8) if with_feedback else None
    metadata = ConversationMetadata(
        conversation_id="conversation-1",
        turn_id=make_id(),
        tenant_id=TENANT,
        user_id="user_123",
        intent_detected="optimize_code",
        intent_confidence=0.91,
        sentiment_detected="neutral",
        sentiment_confidence=0.83,
        persona_selected="assistant",
        user_satisfaction=feedback and feedback.satisfaction_score,
        response_quality=feedback and feedback.response_quality,
        entities_extracted=(("Python", "LANGUAGE"),),
        linguistic_features={"tokens": 8, "type_token_ratio": 0.875, "question": True, "language": "en"},
        feedback_provided=with_feedback,
        correction_needed=False,
        degraded=False,
        model_version="v0001",
        occurred_at=utc_now(),
    )
    return Turn(
        metadata=metadata,
        user_text=text,
        assistant_response="Here are some techniques: measure first, then change one thing at a time. " * 2,
        entities=(Entity(start=23, end=29, label="LANGUAGE", text="Python"),) if text == TEXT else (),
        feedback=feedback,
    )


async def measure(add: Add, turns: Sequence[Turn], *, callers: int, into: Measured) -> None:
    """Add the turns with `callers` callers; each awaits its turn before the next.

    The garbage of former rounds is collected first. A full collection takes a tenth of a second.
    """
    gc.collect()
    waiting = iter(turns)

    async def caller() -> None:
        for turn in waiting:
            started = time.perf_counter()
            await add(turn)
            into.waits.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    into.rates.append(len(turns) / (time.perf_counter() - started))


COUNTERS = ("turns", "with_feedback", "awaiting_curation")


class ThroughSqlAlchemy:
    """One transaction per turn through SQLAlchemy: the store without group commit."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, file: Path) -> ThroughSqlAlchemy:
        return cls(create_engines(parse_url(file), busy_timeout_s=10.0))

    async def add(self, turn: Turn) -> None:
        body = turn.model_dump_json()
        async with self._lock, self._engines.writer.begin() as connection:
            await connection.run_sync(self._write, turn.turn_id, body)

    @staticmethod
    def _write(connection: Connection, turn_id: str, body: str) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        turn_writer.add(connection, [(1, turn_id, "u", 0, True, True, 0, body)])
        counters.add(connection, {1: {("turns", name): 1 for name in COUNTERS}})

    async def close(self) -> None:
        await self._engines.dispose()


class ThroughAiosqlite:
    """One transaction per turn through plain aiosqlite."""

    def __init__(self, driver: aiosqlite.Connection, tenant: int) -> None:
        self._driver = driver
        self._tenant = tenant
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, file: Path) -> ThroughAiosqlite:
        driver = await aiosqlite.connect(file, isolation_level=None)
        for pragma in WRITER_PRAGMAS:
            await driver.execute_fetchall(pragma)
        ((tenant,),) = await driver.execute_fetchall("SELECT tenant FROM tenants")
        return cls(driver, tenant)

    async def add(self, turn: Turn) -> None:
        body = turn.model_dump_json()
        async with self._lock:
            await self._driver.execute_fetchall("BEGIN IMMEDIATE")
            await self._driver.execute_fetchall(
                "INSERT INTO turns (tenant, turn_id, awaiting_curation, has_words, revision, body) "
                "VALUES (?, ?, 1, 1, 0, ?) ON CONFLICT DO NOTHING RETURNING seq",
                (self._tenant, turn.turn_id, body),
            )
            await self._driver.execute_fetchall(
                "INSERT INTO counters (tenant, family, name, value) VALUES (?1, 'turns', 'turns', 1), "
                "(?1, 'turns', 'with_feedback', 1), (?1, 'turns', 'awaiting_curation', 1) "
                "ON CONFLICT DO UPDATE SET value = value + excluded.value",
                (self._tenant,),
            )
            await self._driver.commit()

    async def close(self) -> None:
        await self._driver.close()


async def compare_store(
    folder: Path, *, rounds: int, turns: int, callers: int, make_id: Callable[[], str]
) -> dict[str, Measured]:
    """The store and its peers in alternating rounds. Checks every acknowledged turn."""
    file, few = folder / "karen.db", max(turns // 20, callers)
    async with open_store(file, load_settings().store) as store:
        await store.add_turn(make_turn())  # creates the tenant
        peers = [await ThroughSqlAlchemy.open(file), await ThroughAiosqlite.open(file)]
        systems: dict[str, tuple[Add, int]] = {"group commit": (store.add_turn, turns)}
        for name, peer in zip(PEERS, peers, strict=True):
            systems[name] = (peer.add, few)
        measured = {name: Measured() for name in systems}
        for _ in range(rounds):
            for name, (add, number) in systems.items():
                batch = [make_turn(make_id=make_id) for _ in range(number)]
                await measure(add, batch, callers=callers, into=measured[name])
        for peer in peers:
            await peer.close()
        await check(store, 1 + sum(len(one.waits) for one in measured.values()))
    return measured


async def check(store: SqlMemoryStore, expected: int) -> None:
    """Raise if an acknowledged turn is missing."""
    stored = 0
    async for _ in store.turns(TENANT):
        stored += 1
    if not stored == expected == (await store.counts(TENANT)).turns:
        raise RuntimeError(f"{expected} turns were acknowledged, {stored} are stored")


def print_store(measured: Mapping[str, Measured], *, callers: int) -> None:
    """Print the table with the targets."""
    grouped = measured["group commit"]
    print(f"{callers} callers, each awaiting its own turn; {len(grouped.waits):,} turns, all stored")
    print(f"{'':38}{'turns/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'ratio':>8}")
    for name, one in measured.items():
        waits = "".join(f"{one.wait_ms(share):9.2f}" for share in (0.5, 0.99, 1.0))
        print(f"{name:38}{one.rate:10,.0f}{waits}{grouped.rate / one.rate:8.1f}")
    print(f"rounds of group commit: {', '.join(f'{rate:,.0f}' for rate in grouped.rates)} turns/s")
    print(f"targets: {TARGET_PER_S:,} turns/s, p99 {TARGET_P99_MS:.0f} ms, ratio {TARGET_RATIO:.0f}")


def run_store(options: argparse.Namespace) -> None:
    """`--store`: the memory store alone."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measured = asyncio.run(
            compare_store(
                Path(folder),
                rounds=options.rounds,
                turns=options.turns,
                callers=options.callers,
                make_id=random_id if options.random_ids else new_id,
            )
        )
    print_store(measured, callers=options.callers)


def random_id() -> str:
    """A random identifier, without time order."""
    return uuid.uuid4().hex


async def compare_analysis(
    folder: Path, *, pipeline: str, rounds: int, callers: int
) -> tuple[Measured, list[float]]:
    """Turns with analysis, and bare `nlp.pipe`, in alternating rounds."""
    lines = required(iter_labelled(CORPUS))
    texts = [line.text for line in lines]
    whole, bare = Measured(), []
    fast = {
        "training.pipeline": pipeline,
        "training.n_iter": 1,
        "training.min_updates": 0,
    }
    async with create_autonomous_learner(folder, overrides=fast) as learner:
        await learner.bootstrap(TENANT, lines)
        nlp = spacy.load((await learner.versions(TENANT))[0].path)
        for number in range(rounds + 1):
            started = time.perf_counter()
            for _ in nlp.pipe(texts, batch_size=64):
                pass
            rate = len(texts) / (time.perf_counter() - started)
            measured = Measured()
            await measure_turns(learner, texts, callers=callers, into=measured)
            if number > 0:  # the first round is a warm-up
                bare.append(rate)
                whole.rates += measured.rates
                whole.waits += measured.waits
    return whole, bare


async def measure_turns(
    learner: AutonomousLearner, texts: Sequence[str], *, callers: int, into: Measured
) -> None:
    """Collect one turn per text."""
    waiting = iter(texts)

    async def caller(number: int) -> None:
        for text in waiting:
            started = time.perf_counter()
            await learner.collect_conversation_metadata(TENANT, text, "Let me see.", f"user_{number}")
            into.waits.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    into.rates.append(len(texts) / (time.perf_counter() - started))


def run_analysis(options: argparse.Namespace) -> None:
    """`--analysis`: whole turns."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        whole, bare = asyncio.run(
            compare_analysis(
                Path(folder),
                pipeline="stock" if options.stock else "",
                rounds=options.rounds,
                callers=options.callers,
            )
        )
    ratios = [rate / bare_rate for rate, bare_rate in zip(whole.rates, bare, strict=True)]
    print(f"{'':24}{'turns/s':>10}{'p50 ms':>9}{'p99 ms':>9}")
    print(
        f"{'collect with analysis':24}{whole.rate:10,.0f}{whole.wait_ms(0.5):9.1f}{whole.wait_ms(0.99):9.1f}"
    )
    print(f"{'bare nlp.pipe':24}{statistics.median(bare):10,.0f}")
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"ratio, round by round: median {statistics.median(ratios):.2f} ({spread})")
    print(f"target: {TARGET_OF_BARE}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--store", action="store_true", help="the memory store alone")
    parser.add_argument("--analysis", action="store_true", help="whole turns, against bare nlp.pipe")
    parser.add_argument("--stock", action="store_true", help="use spaCy's own pipes")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turns", type=int, default=6_400, help="turns per round")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--random-ids", action="store_true", help="random turn ids")
    parser.add_argument("--folder", help="folder of the database; default: the temporary folder")
    options = parser.parse_args()
    both = options.store == options.analysis
    if options.store or both:
        run_store(options)
    if options.analysis or both:
        run_analysis(options)


if __name__ == "__main__":
    main()
