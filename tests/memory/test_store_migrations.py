"""A database of each former revision opens, keeps its rows, and has the schema of a new one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine.interfaces import ReflectedColumn, ReflectedIndex
from sqlalchemy.ext.asyncio import create_async_engine

from karen_learner.memory import open_store, schema
from karen_learner.memory.alembic_steps import migrations, scripts
from karen_learner.memory.engine import parse_url
from karen_learner.memory.tables import metadata
from karen_learner.records import (
    Confusion,
    CurationWrite,
    LearningCycleResult,
    Promotion,
    Turn,
    UserFeedback,
    ValidationResult,
)
from karen_learner.records.base import to_micros
from karen_learner.settings import StoreSettings
from tests.databases import a_database, contents
from tests.memory.counters_of_rows import counted, gathered, scanned
from tests.memory.memory_specimens import (
    NOON,
    make_cycle,
    make_example,
    make_result,
    make_turn,
    make_version,
)

T = TypeVar("T")

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
TURNS = 1100
"""More than a page of the migration."""
FINISHED_CYCLES = 110
"""More than a page of the migration."""

TENANT = "a\0c\1me"
SCORES = ("accuracy", "precision", "recall", "f1_score", "intent_accuracy", "sentiment_accuracy",
          "entity_accuracy")  # fmt: skip
SECRET = "my secret text"
COUNTED = {"turns": TURNS, "with_feedback": 1, "corrections": 1, "awaiting_curation": 1, "degraded": 1}


def former_turns() -> list[Turn]:
    special = [
        make_turn("t1", tenant=TENANT, model_version="v1", text='with "mood": in it'),
        make_turn(
            "t2",
            tenant=TENANT,
            user_id="u\0\1",
            model_version="v1",
            degraded=True,
            feedback=UserFeedback(corrected_entities=()),
        ),
    ]
    common = make_turn("t", tenant=TENANT, occurred_at=NOON + timedelta(seconds=1), model_version="v2")
    rest = [
        common.model_copy(update={"metadata": common.metadata.model_copy(update={"turn_id": f"t{n}"})})
        for n in range(3, TURNS + 1)
    ]
    return [*special, *rest]


def migrate(run: Callable[[Config, str], None], connection: Connection, revision: str) -> None:
    config = migrations()
    config.attributes["connection"] = connection
    run(config, revision)


def make_schema(connection: Connection, revision: str) -> None:
    """The first schema from its SQL, then the migrations up to `revision`."""
    first = Path(__file__).parent / "schemas" / f"0001.{connection.dialect.name}.sql"
    for statement in first.read_text().split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)
    context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
    context.stamp(scripts(), "0001")
    migrate(command.upgrade, connection, revision)


def fill(connection: Connection, revision: str) -> None:
    """Make the schema of a revision, with rows as the releases of that revision wrote them."""
    if revision > "0004":  # differs from 0004 in rows that the migrations write
        fill(connection, "0004")
        migrate(command.upgrade, connection, revision)
        return
    make_schema(connection, revision)
    stored = TENANT
    if connection.dialect.name == "postgresql":  # see TextWithNul
        stored = TENANT.replace("\1", "\1" + "1").replace("\0", "\1" + "0")

    def put(table: str, *rows: dict[str, Any]) -> None:
        names = list(rows[0])
        values = ", ".join(f":{name}" for name in names)
        connection.execute(text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})"), rows)

    put(
        "tenants",
        {"name": stored, "champion": "v1", "last_version_number": 7},
        {"name": "empty", "champion": None, "last_version_number": 0},
    )
    put("turns", *(turn_row(turn, revision) for turn in former_turns()))
    put(
        "counters",
        *({"tenant": 1, "family": "turns", "name": name, "value": n} for name, n in COUNTED.items()),
    )
    example = make_example("e1")
    values = {
        name: getattr(example, name)
        for name in ("example_id", "text", "intent", "source", "quality", "key", "stratum", "users")
    }
    more = {
        "tenant": 1,
        "group_key": "g",
        "split": "train",
        "state": "learned",
        "draw": 0.5,
        "rejections": 0,
        "learned_in": "v1",
    }
    mood = {"mood": '{"negative": 0.5}'} if revision == "0003" else {}
    put("examples", values | more | mood | {"created_at": to_micros(NOON)})
    cycle = {"cycle_id": "c1", "mode": "full", "stage": "training", "token": 4, "started_at": to_micros(NOON)}
    put("cycles", {"tenant": 1} | cycle)
    finished = {"tenant": 1, "mode": "full", "stage": "finished", "token": 3} | dict.fromkeys(
        ("started_at", "finished_at"), to_micros(NOON)
    )
    result = json.dumps(former_result())
    put("cycles", *(finished | {"cycle_id": f"f{n}", "result": result} for n in range(FINISHED_CYCLES)))
    put("leases", {"tenant": 1, "owner": "far/1/a", "token": 4, "expires_at": 0})
    version = make_version(tenant="acme")
    put("versions", {"tenant": 1, "version": "v1", "body": json.dumps(version.to_dict())})
    put("lineage", {"version": 1, "example": 1})
    if revision > "0001":
        put("heard_turns", {"version": 1, "turn": 3})


def judged() -> LearningCycleResult:
    """A result with confusions whose examples are unknown."""
    confusions = tuple(Confusion(task="intent", gold="a", predicted="b", count=n) for n in (2, 1))
    scores = ValidationResult(**dict.fromkeys(SCORES, 0.5), passed_threshold=True, errors=confusions)
    return make_result(tenant=TENANT, baseline=scores, validation=scores)


def former_result() -> dict[str, Any]:
    """The same result as former releases wrote it."""
    result = judged().to_dict() | {"self_labelled_turns": 3}
    for scores in (result["baseline"], result["validation"]):
        for confusion in scores["errors"]:
            del confusion["example_ids"]
            confusion["texts"] = [SECRET]
    return result


def turn_row(turn: Turn, revision: str) -> dict[str, Any]:
    body = turn.model_dump_json()
    if revision == "0003":
        body = body.replace('"feedback":', '"mood":{"negative":0.5},"feedback":')
    awaiting = turn.feedback is not None
    return {
        "tenant": 1,
        "turn_id": turn.turn_id,
        "awaiting_curation": awaiting,
        "has_words": True,
        "revision": 0,
        "body": body,
    }


async def on_database(place: Path | str, work: Callable[[Connection], T]) -> T:
    engine = create_async_engine(parse_url(place))
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def describe_index(index: ReflectedIndex) -> str:
    conditions = [str(value) for value in index.get("dialect_options", {}).values()]
    return f"{index['name']} {index['column_names']} {conditions}"


def describe_column(column: ReflectedColumn) -> str:
    return f"{column['name']} {column['type']} {column['nullable']} {column['default']}"


def description(connection: Connection) -> list[str]:
    """Tables, columns with types and defaults, indexes with their conditions, and keys."""
    found = inspect(connection)
    foreign_keys = found.get_multi_foreign_keys()
    return [
        f"{table} {list(map(describe_column, found.get_columns(table)))} "
        f"{sorted(map(describe_index, found.get_indexes(table)))} "
        f"{found.get_pk_constraint(table)['constrained_columns']} "
        f"{sorted((key['name'], key['column_names']) for key in found.get_unique_constraints(table))} "
        f"{sorted((key['referred_table'], key['constrained_columns']) for key in foreign_keys[None, table])} "
        f"{found.get_table_options(table)}"
        for table in sorted(found.get_table_names())
    ]


def differences(connection: Connection) -> list[Any]:
    options = {"version_table": schema.VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


@asynccontextmanager
async def former(revision: str, place: Path | str, settings: StoreSettings) -> AsyncIterator[Any]:
    await on_database(place, lambda connection: fill(connection, revision))
    async with open_store(place, settings) as store:
        yield store


@pytest.mark.parametrize("revision", REVISIONS)
async def test_rows_of_a_former_revision_are_kept(
    revision: str, shared: Path | str, store_settings: StoreSettings
) -> None:
    store_settings.update({"page_size": 500})
    async with former(revision, shared, store_settings) as store:
        stored = [turn.model_copy(update={"seq": None}) async for turn in store.turns(TENANT)]
        assert stored == former_turns()
        assert (await store.counts(TENANT)).model_dump(include=set(COUNTED)) == COUNTED
        assert await store.total_turns() == TURNS
        assert await store.champion(TENANT) == await store.get_version(TENANT, "v1") == make_version()
        assert await store.next_version_number(TENANT) == 8
        assert await store.unfinished_tenants() == [TENANT]
        assert [row.cycle_id for row in await store.unfinished_cycles(TENANT)] == ["c1"]
        lease = await store.acquire_lease(TENANT, "far/1/b", ttl=timedelta(seconds=60))
        assert (lease.name, lease.token) == ("cycle", 5)
        assert [example async for example in store.lineage(TENANT, "v1")] == ["e1"]


@pytest.mark.parametrize("revision", REVISIONS)
async def test_new_columns_and_counters_are_filled(
    revision: str, shared: Path | str, store_settings: StoreSettings
) -> None:
    async with former(revision, shared, store_settings) as store:
        first, second = await store.version_counts(TENANT, "v1"), await store.version_counts(TENANT, "v2")
        assert first.model_dump() == {"turns": 2, "with_feedback": 1, "corrections": 1, "degraded": 1}
        assert second.model_dump() == {
            "turns": TURNS - 2,
            "with_feedback": 0,
            "corrections": 0,
            "degraded": 0,
        }

        def columns(connection: Connection) -> list[Any]:
            turns = metadata.tables["turns"]
            wanted = turns.select().order_by(turns.c.seq)
            return [(row.user_id, row.occurred_at) for row in connection.execute(wanted)]

        expected = [(turn.metadata.user_id, to_micros(turn.metadata.occurred_at)) for turn in former_turns()]
        assert await on_database(shared, columns) == expected


@pytest.mark.parametrize("revision", [revision for revision in REVISIONS if revision < "0006"])
async def test_texts_are_removed_from_the_journal(
    revision: str, shared: Path | str, store_settings: StoreSettings
) -> None:
    await on_database(shared, lambda connection: fill(connection, revision))
    assert SECRET in await contents(shared)
    async with open_store(shared, store_settings) as store:
        rows = await store.cycles(TENANT, limit=FINISHED_CYCLES)
        assert [row.result for row in rows] == [judged()] * FINISHED_CYCLES
        assert SECRET not in await contents(shared)
    if isinstance(shared, Path):
        files = [shared, *shared.parent.glob(f"{shared.name}-*")]
        assert not any(SECRET.encode() in file.read_bytes() for file in files)


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_migrated_database_accepts_every_write(
    revision: str, shared: Path | str, store_settings: StoreSettings
) -> None:
    async with former(revision, shared, store_settings) as store:
        await store.add_feedback(TENANT, "t1", UserFeedback(corrected_intent="travel"))
        await store.add_turn(make_turn("new", tenant=TENANT, model_version="v1"))
        counts = await store.version_counts(TENANT, "v1")
        assert (counts.turns, counts.with_feedback) == (3, 2)
        assert await store.save_curation(TENANT, CurationWrite(upserts=[make_example("e2")]))
        await store.start_cycle(make_cycle("c2", tenant=TENANT))
        promotion = Promotion(
            version=make_version("v2", parent="v1"),
            expected="v1",
            learned=[make_example("e2")],
        )
        assert await store.promote(TENANT, promotion, token=None)


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_migrated_schema_equals_that_of_a_new_database(
    revision: str, shared: Path | str, tmp_path: Path, store_settings: StoreSettings
) -> None:
    async with former(revision, shared, store_settings):
        migrated = await on_database(shared, description)
        assert await on_database(shared, differences) == []
    kind = "postgresql" if isinstance(shared, str) else "file"
    async with a_database(kind, tmp_path / "new") as fresh, open_store(fresh, store_settings):
        assert await on_database(fresh, description) == migrated


FORMER_EXAMPLES = (
    {"example_id": "ex-a", "key": "a", "state": "pending", "users": 3, "quality": 0.98, "user_id": "ann",
     "turn_id": "t1"},
    {"example_id": "ex-b", "key": "b", "state": "conflict", "users": 1, "quality": 0.9},
    {"example_id": "ex-b~", "key": "b~", "state": "conflict", "users": 1, "quality": 0.7,
     "intent": "refund", "entities": '[[0, 1, "CITY"]]'},
    {"example_id": "ex-c", "key": "c", "state": "learned", "users": 1, "quality": 1, "source": "seed"},
    {"example_id": "ex-c~", "key": "c~", "state": "quarantined", "users": 1, "quality": 0.9,
     "reason": "resolved"},
    {"example_id": "ex-d", "key": "d", "state": "quarantined", "users": 1, "quality": 0.9,
     "reason": "unknown label 'x' for intent"},
    {"example_id": "ex-e", "key": "e", "state": "quarantined", "users": 1, "quality": 0.9,
     "reason": "harmful"},
    {"example_id": "ex-f", "key": "f", "state": "quarantined", "users": 1, "quality": 0.9, "text": "",
     "reason": "consent"},
)  # fmt: skip


def add_former_examples(connection: Connection) -> None:
    common = {
        "tenant": 1, "text": "T", "source": "correction", "intent": "billing", "entities": None,
        "user_id": None, "turn_id": None, "group_key": "h", "stratum": "billing", "split": "train",
        "reason": None, "draw": 0.5, "rejections": 0, "created_at": to_micros(NOON),
    }  # fmt: skip
    rows = [common | row for row in FORMER_EXAMPLES]
    names = ", ".join(common | FORMER_EXAMPLES[0])
    values = ", ".join(f":{name}" for name in common | FORMER_EXAMPLES[0])
    connection.execute(text(f"INSERT INTO examples ({names}) VALUES ({values})"), rows)
    connection.execute(text("INSERT INTO groups VALUES (1, 'h', 'train', 8)"))
    counts = {("examples", "conflict"): 2, ("examples", "quarantined"): 4, ("labels/intent", "refund"): 1,
              ("labels/entities", "CITY"): 1, ("strata/conflict/train", "billing"): 2}  # fmt: skip
    counters = [{"family": family, "name": name, "value": value} for (family, name), value in counts.items()]
    connection.execute(text("INSERT INTO counters VALUES (1, :family, :name, :value)"), counters)


async def test_examples_become_contributions(shared: Path | str, store_settings: StoreSettings) -> None:
    def make(connection: Connection) -> None:
        fill(connection, "0006")
        add_former_examples(connection)

    await on_database(shared, make)
    async with open_store(shared, store_settings) as store:
        found = await store.contributions(TENANT, ["a", "b", "b~", "c", "d", "e", "f"])
        assert {key: len(several) for key, several in found.items()} == {
            "a": 3, "b": 2, "c": 1, "d": 1, "e": 1,
        }  # fmt: skip
        assert [each.quality for each in found["a"]] == [pytest.approx(0.92)] * 3
        assert await store.contributors(TENANT, ["a"]) == {"a": ("ann", "turn:ex-a/2", "turn:ex-a/3")}
        assert {each.occurred_at for each in found["a"]} == {NOON}
        assert [(each.intent, each.entities is None) for each in found["b"]] == [
            ("billing", True),
            ("refund", False),
        ]
        assert [found[key][0].reason for key in "cde"] == [None, "unknown label 'x' for intent", None]
        assert (await store.counts(TENANT)).examples == {"conflict": 1, "quarantined": 3}
        assert await store.strata(TENANT, state="conflict") == {"billing": 1}
        kept = [row.example_id async for row in store.examples(TENANT, state="quarantined")]
        assert kept == ["ex-d", "ex-e", "ex-f"]


SPLIT_EXAMPLES = (
    {"example_id": "ex-held", "source": "seed", "split": "holdout", "state": "pending"},
    {"example_id": "ex-dev", "source": "reviewed", "split": "dev", "state": "pending", "intent": "refund"},
    {"example_id": "ex-agreed", "split": "holdout", "state": "pending", "users": 2},
    {"example_id": "ex-new", "split": "train", "state": "pending", "intent": "refund"},
    {"example_id": "ex-gold", "source": "seed", "split": "train", "state": "learned"},
    {"example_id": "ex-known", "split": "train", "state": "learned", "intent": "refund"},
    {"example_id": "ex-disputed", "split": "dev", "state": "conflict"},
    {"example_id": "ex-waiting", "source": "seed", "split": "train", "state": "quarantined",
     "reason": "rolled back"},
    {"example_id": "ex-removed", "split": "dev", "state": "quarantined", "text": "", "reason": "consent"},
)  # fmt: skip


def split_rows() -> list[dict[str, Any]]:
    """Rows of examples with splits, as former releases wrote them."""
    common = {
        "tenant": 1, "text": "T", "source": "correction", "intent": "billing", "entities": None,
        "user_id": None, "turn_id": None, "reason": None, "draw": 0.5, "rejections": 0, "users": 1,
        "quality": 0.9, "created_at": to_micros(NOON),
    }  # fmt: skip
    rows = [common | row for row in SPLIT_EXAMPLES]
    return [
        row | {"key": row["example_id"], "group_key": row["example_id"], "stratum": row["intent"]}
        for row in rows
    ]


def add_split_examples(connection: Connection) -> None:
    """Add these examples with their groups and counters. The example `e1` of `fill` is counted, too."""
    rows = split_rows()
    names = list(rows[0])
    values = ", ".join(f":{name}" for name in names)
    connection.execute(text(f"INSERT INTO examples ({', '.join(names)}) VALUES ({values})"), rows)
    groups = [row for row in rows if row["reason"] != "consent"]
    connection.execute(text("INSERT INTO groups VALUES (1, :group_key, :split, 1)"), groups)
    counts: Counter[tuple[str, str]] = Counter()
    first = {"state": "learned", "split": "train", "stratum": "billing", "intent": "billing", "reason": None}
    for row in (first, *rows):
        counts["examples", row["state"]] += 1
        counts[f"strata/{row['state']}/{row['split']}", row["stratum"]] += 1
        counts["sets", "pending_train"] += row["state"] == "pending" and row["split"] == "train"
        counts["sets", "holdout"] += row["state"] == "pending" and row["split"] == "holdout"
        counts["sets", "waiting"] += row["reason"] == "rolled back"
        counts["labels/intent", row["intent"]] += row["state"] != "quarantined"
        is_gold = row.get("source") in ("seed", "reviewed") and row["state"] != "quarantined"
        counts["gold/intent", row["intent"]] += is_gold
    counters = [{"family": family, "name": name, "value": value} for (family, name), value in counts.items()]
    connection.execute(text("INSERT INTO counters VALUES (1, :family, :name, :value)"), counters)


async def test_examples_of_all_splits_are_learned_and_judge(
    shared: Path | str, store_settings: StoreSettings
) -> None:
    def make(connection: Connection) -> None:
        fill(connection, "0007")
        add_split_examples(connection)

    await on_database(shared, make)
    async with open_store(shared, store_settings) as store:
        pending = await gathered(store.examples(TENANT, state="pending"))
        assert [(row.example_id, row.is_gold) for row in pending] == [
            ("ex-held", True), ("ex-dev", True), ("ex-agreed", False), ("ex-new", False),
        ]  # fmt: skip
        gold = await gathered(store.examples(TENANT, state="learned", gold=True))
        assert [row.example_id for row in gold] == ["ex-gold"]
        groups = [row["example_id"] for row in SPLIT_EXAMPLES]
        gold_names = {"ex-held", "ex-dev", "ex-gold", "ex-waiting"}
        assert set(await store.gold_groups(TENANT, groups)) == gold_names
        assert await store.masks(TENANT, "g1", [f"group:{name}" for name in groups]) == {}
        (sampled,) = await store.sample_learned(TENANT, "billing", limit=9, gold_only=True)
        assert sampled.example_id == "ex-gold"
        found, expected = await counted(store, TENANT), await scanned(store, TENANT)
        assert (found["strata"], found["labels"]) == (expected["strata"], expected["labels"])
        for name in ("examples", "gold", "waiting"):
            assert found["counts"][name] == expected["counts"][name]
        assert (found["counts"]["gold"], found["counts"]["waiting"]) == (3, 1)


def test_the_names_of_the_migrations_are_their_revisions() -> None:
    """Databases are opened without Alembic if they need no migration."""
    steps = [step.revision for step in scripts().walk_revisions()]
    assert schema.revisions() == steps[::-1]
