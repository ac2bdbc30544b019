"""After any operations, counters equal a scan, and tenants are separate."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karen_learner.contracts import MemoryStore
from karen_learner.errors import KarenLearnerError
from karen_learner.memory import open_store
from karen_learner.records import (
    TASKS,
    CurationWrite,
    CycleStatus,
    Example,
    ExampleState,
    Promotion,
    Source,
    Task,
    UserFeedback,
)
from karen_learner.records.labels import LabelChange
from karen_learner.settings import load_settings
from tests.databases import SHARED, a_database
from tests.memory.counters_of_rows import VERSIONS, counted, gathered, scanned
from tests.memory.memory_specimens import make_cycle, make_example, make_result, make_turn, make_version

SETTINGS = load_settings(overrides={"store.page_size": 4}, environment={}).store
KINDS = ["memory", *(kind for kind in SHARED if kind != "file")]
TENANTS = ("a/b 🧪", "b")
MASKED = ("group:g1", "person:ann")

Operation = Callable[[MemoryStore, str], Awaitable[object]]

labels = st.sampled_from(["billing", "refund", "ü"])
turn_ids = st.sampled_from(["t1", "t2", "t3"])
turn_revisions = st.tuples(st.integers(1, 7), st.integers(0, 2))
example_ids = st.sampled_from(["e1", "e2", "e3", "e4"])
feedbacks = st.builds(
    UserFeedback,
    satisfaction_score=st.none() | st.sampled_from([0.0, 0.4, 1.0]),
    corrected_intent=st.none() | labels,
    corrected_entities=st.none() | st.just(()),
    consent=st.sampled_from([None, None, True, False]),
)
examples = st.builds(
    make_example,
    example_ids,
    intent=st.none() | labels,
    sentiment=st.none() | labels,
    entities=st.none() | st.lists(st.builds(lambda label: [0, 1, label], labels), max_size=3),
    source=st.sampled_from(get_args(Source)),
    stratum=labels,
    state=st.sampled_from(get_args(ExampleState)),
    group=st.sampled_from(["g1", "g2"]),
    turn_id=st.none() | turn_ids,
    rejections=st.sampled_from([0, 1]),
    reason=st.sampled_from([None, "rolled back"]),
)


def adding(
    turn_id: str, feedback: UserFeedback | None, degraded: bool, without_text: bool, version: str | None
) -> Operation:
    text = None if without_text else "pay my bill in Rome"

    def operation(store: MemoryStore, tenant: str) -> Awaitable[object]:
        return store.add_turn(
            make_turn(
                turn_id,
                tenant=tenant,
                text=text,
                feedback=feedback,
                degraded=degraded,
                model_version=version,
            )
        )

    return operation


def adding_feedback(turn_id: str, feedback: UserFeedback) -> Operation:
    return lambda store, tenant: store.add_feedback(tenant, turn_id, feedback)


def saving(upserts: list[Example], curated: list[tuple[int, int]]) -> Operation:
    write = CurationWrite(upserts=upserts, curated=curated)
    return lambda store, tenant: store.save_curation(tenant, write)


def rejecting(trained: list[Example], harmful: bool) -> Operation:
    return lambda store, tenant: store.reject_examples(tenant, trained, harmful=harmful, quarantine_at=2)


def promoting(
    version: str, expected: str | None, learned: list[Example], masks: dict[str, int], generation: str
) -> Operation:
    def operation(store: MemoryStore, tenant: str) -> Awaitable[object]:
        promotion = Promotion(
            version=make_version(version, tenant=tenant),
            expected=expected,
            learned=learned,
            replayed=["e1"],
            masks=masks,
            generation=generation,
        )
        return store.promote(tenant, promotion, token=None)

    return operation


def ending_the_waiting(release: bool) -> Operation:
    return lambda store, tenant: store.end_waiting(tenant, release=release)


def cycling(cycle_id: str, status: CycleStatus | None, seconds: float | None) -> Operation:
    async def operation(store: MemoryStore, tenant: str) -> None:
        if status is None:
            await store.start_cycle(make_cycle(cycle_id, tenant=tenant))
            return
        stage_seconds = {} if seconds is None else {"training": seconds}
        result = make_result(cycle_id, tenant=tenant, status=status, stage_seconds=stage_seconds)
        await store.finish_cycle(tenant, cycle_id, result)

    return operation


def declaring(label: str) -> Operation:
    return lambda store, tenant: store.declare_labels(tenant, {"intent": [label]})


def changing(task: Task, label: str, successor: str | None) -> Operation:
    change = LabelChange(task=task, label=label, successor=successor)
    return lambda store, tenant: store.change_label(tenant, change)


versions = st.sampled_from(VERSIONS)
cycle_ids = st.sampled_from(["c1", "c2"])
operations = st.one_of(
    st.builds(adding, turn_ids, st.none() | feedbacks, st.booleans(), st.booleans(), st.none() | versions),
    st.builds(adding_feedback, turn_ids, feedbacks),
    st.builds(saving, st.lists(examples, max_size=4), st.lists(turn_revisions, max_size=3)),
    st.builds(rejecting, st.lists(examples, max_size=3), st.booleans()),
    st.builds(ending_the_waiting, st.booleans()),
    st.builds(
        promoting,
        versions,
        st.none() | versions,
        st.lists(examples, max_size=3),
        st.dictionaries(st.sampled_from(MASKED), st.integers(0, 31)),
        st.sampled_from(("g1", "g2")),
    ),
    st.builds(
        cycling,
        cycle_ids,
        st.none() | st.sampled_from(get_args(CycleStatus)),
        st.none() | st.integers(0, 8).map(lambda eighths: eighths / 8),
    ),
    st.builds(declaring, labels),
    st.builds(changing, st.sampled_from(TASKS), labels, st.none() | labels),
)


some = st.lists(operations, min_size=1, max_size=10)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=some, second=some)
def test_counters_equal_a_scan_and_tenants_are_separate(
    kind: str, migrated: str, first: list[Operation], second: list[Operation]
) -> None:
    seen = asyncio.run(run_operations(kind, migrated, first, second))
    assert seen.after_acts_of_other == seen.before
    assert seen.counted == seen.scanned


@dataclass(frozen=True)
class Seen:
    """Views of the first tenant before and after operations on the other, and counts of both."""

    before: Any
    after_acts_of_other: Any
    counted: list[Any]
    scanned: list[Any]


async def run_operations(kind: str, migrated: str, first: list[Operation], second: list[Operation]) -> Seen:
    async with a_database(kind, like=migrated) as place, open_store(place, SETTINGS) as store:
        one, other = TENANTS
        await act(store, one, first)
        before = await view(store, one)
        await act(store, other, second)
        return Seen(
            before,
            await view(store, one),
            counted=[await counted(store, tenant) for tenant in TENANTS],
            scanned=[await scanned(store, tenant) for tenant in TENANTS],
        )


async def act(store: MemoryStore, tenant: str, operations: list[Operation]) -> None:
    for operation in operations:
        # Feedback on an unknown turn and the end of an unknown cycle are errors.
        with contextlib.suppress(KarenLearnerError):
            await operation(store, tenant)


async def view(store: MemoryStore, tenant: str) -> list[Any]:
    """Results of every read of a tenant."""
    return [
        await gathered(store.turns(tenant)),
        await gathered(store.turns_awaiting_curation(tenant)),
        *[await gathered(store.examples(tenant, state=state)) for state in get_args(ExampleState)],
        await store.examples_by_key(tenant, [f"key-e{n}" for n in range(5)]),
        await store.gold_groups(tenant, ["g1", "g2"]),
        await store.masks(tenant, "g1", MASKED),
        await store.recent_texts(tenant, limit=9),
        await store.sample_learned(tenant, "billing", limit=9),
        await store.sample_learned(tenant, "billing", limit=9, gold_only=True),
        await store.cycles(tenant),
        await store.unfinished_cycles(tenant),
        await store.champion(tenant),
        await store.cycles(tenant, since=0),
        await store.versions(tenant, since="v1"),
        await store.versions(tenant),
        *[await gathered(store.lineage(tenant, version)) for version in ("v1", "v2")],
        await counted(store, tenant),
    ]
