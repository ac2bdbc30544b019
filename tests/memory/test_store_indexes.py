"""Statements whose cost must not grow with history use their indexes and do not sort."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from karen_learner.memory import (
    contributions,
    counters,
    curation,
    examples,
    journal,
    outcomes,
    turns,
    versions,
)
from karen_learner.memory.database import Database
from karen_learner.memory.engine import parse_url


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(parse_url(tmp_path / "karen.db"), busy_timeout_s=5)
    await opened.start()
    yield opened
    await opened.close()


def plans(connection: Connection, work: Callable[[Connection], object]) -> list[str]:
    """SQLite's query plans of the statements that `work` executes."""
    steps: list[str] = []

    def explain(
        cursor_connection: Connection, _: object, sql: str, values: tuple[object, ...], *rest: object
    ) -> None:
        if not sql.startswith("EXPLAIN"):
            found = cursor_connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
            steps.extend(row[3] for row in found)

    event.listen(connection, "before_cursor_execute", explain)
    work(connection)
    event.remove(connection, "before_cursor_execute", explain)
    return steps


def example_page(gold: bool | None) -> Callable[[Connection], object]:
    return lambda c: examples.page(c, "acme", "pending", gold, False, after=5, size=3)


STATEMENTS: dict[str, tuple[Callable[[Connection], object], str]] = {
    "awaiting": (lambda c: turns.awaiting_page(c, "acme", after=5, size=3), "turns_awaiting"),
    "marking": (lambda c: turns.mark_curated(c, 1, [(1, 0), (2, 1)]), "(rowid=?)"),
    "turns": (lambda c: turns.page(c, "acme", after=5, size=3), "turns_in_order"),
    "get": (lambda c: turns.get(c, "acme", "t"), "sqlite_autoindex_turns_1"),
    "find": (lambda c: turns.find(c, [(1, "a"), (1, "b")]), "sqlite_autoindex_turns_1"),
    "keys": (lambda c: examples.by_key(c, "acme", ["a", "b"]), "examples_by_key"),
    "contributions": (lambda c: contributions.by_key(c, "acme", ["a", "b"]), "contributions_by_key"),
    "contributors": (lambda c: contributions.contributors(c, "acme", ["a"]), "contributions_by_key"),
    "contributions of turns": (lambda c: contributions.of_turns(c, 1, ["a"]), "contributions_by_turn"),
    "unusable contributions": (
        lambda c: contributions.unusable_page(c, "acme", after=5, size=3),
        "contributions_unusable",
    ),
    "gold": (example_page(True), "examples_by_state"),
    "feedback": (example_page(False), "examples_by_state"),
    "gold groups": (lambda c: examples.gold_groups(c, "acme", ["a", "b"]), "gold_by_group"),
    "masks": (lambda c: versions.masks_of(c, "acme", "g1", ["a", "b"]), "PRIMARY KEY"),
    "recent texts": (lambda c: turns.recent_texts(c, "acme", limit=5), "turns_in_order"),
    "newest turns": (lambda c: turns.newest(c, "acme", limit=5), "turns_in_order"),
    "newest outcomes": (lambda c: outcomes.page(c, "acme", limit=5), "outcomes_in_order"),
    "outcomes since": (lambda c: outcomes.page(c, "acme", limit=5, after=7), "outcomes_in_order"),
    "sample": (
        lambda c: examples.sample(c, "acme", "x", limit=3, from_draw=0.5),
        "examples_to_replay",
    ),
    "sample of gold": (
        lambda c: examples.sample(c, "acme", "x", limit=3, gold_only=True),
        "examples_to_judge",
    ),
    "unfinished": (lambda c: journal.unfinished(c, "acme"), "cycles_unfinished"),
    "cycles": (lambda c: journal.page(c, "acme", limit=5), "cycles_in_order"),
    "cycles since": (lambda c: journal.page(c, "acme", limit=5, since=7), "cycles_in_order"),
    "cycles of all since": (
        lambda c: journal.page(c, None, limit=5, since=7),
        "cycles USING INTEGER PRIMARY KEY",
    ),
    "total turns": (counters.total_turns, "counters_by_family"),
    "versions since": (lambda c: versions.page(c, "acme", limit=5, since="v1"), "versions_in_order"),
    "alias": (lambda c: versions.alias(c, "acme", "champion"), "aliases USING PRIMARY KEY"),
    "version counts": (lambda c: counters.of_version(c, "acme", "v1"), "PRIMARY KEY"),
    "versions": (lambda c: versions.page(c, "acme", limit=5), "versions_in_order"),
    "lineage": (
        lambda c: versions.lineage_page(c, "acme", "v", after=5, size=3),
        "lineage USING PRIMARY KEY (version=? AND example>?)",
    ),
    "counts": (lambda c: counters.overview(c, "acme"), "PRIMARY KEY"),
    "strata": (lambda c: counters.strata(c, "acme", state="pending"), "PRIMARY KEY"),
    "waiting": (lambda c: curation.end_waiting(c, "acme", release=True), "examples_by_state"),
    "count of undone": (lambda c: versions.count_undone(c, "acme", "v1"), "aliases USING PRIMARY KEY"),
    "withdraw": (lambda c: curation.withdraw(c, 1, ["a"]), "examples_by_turn"),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_uses_its_index(database: Database, name: str) -> None:
    work, index = STATEMENTS[name]
    steps = await database.write((), plans, work)
    assert any(f"INDEX {index}" in step or index in step for step in steps), steps
    assert not [step for step in steps if re.match(r"SCAN (?!anon_)", step)], steps
    if name not in ("gold", "feedback"):  # they sort one page
        assert not [step for step in steps if "B-TREE" in step], steps


async def test_gold_and_feedback_together_sort_one_page_only(database: Database) -> None:
    steps = await database.read(plans, example_page(None))
    assert sum("INDEX examples_by_state" in step for step in steps) == 2, steps


async def test_unfinished_tenants_are_read_from_the_partial_index(database: Database) -> None:
    steps = await database.read(plans, journal.unfinished_tenants)
    assert "SCAN cycles USING INDEX cycles_unfinished" in steps
    assert not [step for step in steps if re.match(r"SCAN tenants", step)], steps
