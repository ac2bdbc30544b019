"""Values of the counters of a tenant, and the same values from a scan of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, TypeVar, get_args

from karen_learner.contracts import MemoryStore
from karen_learner.records import TASKS, Example, ExampleState, Turn

T = TypeVar("T")

VERSIONS = ("v1", "v2")
KINDS_OF_EXAMPLES = (True, False, None)


async def gathered(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


async def counted(store: MemoryStore, tenant: str) -> dict[str, Any]:
    """Values of the counters."""
    schema = await store.labels(tenant)
    return {
        "counts": (await store.counts(tenant)).model_dump(),
        "versions": [(await store.version_counts(tenant, name)).model_dump() for name in VERSIONS],
        "labels": {task: {name: n for name, n in schema[task].items() if n} for task in TASKS},
        "tallies": await store.cycle_tallies(tenant),
        "strata": {
            (state, gold): dict(await store.strata(tenant, state=state, gold=gold))
            for state in get_args(ExampleState)
            for gold in KINDS_OF_EXAMPLES
        },
    }


async def scanned(store: MemoryStore, tenant: str) -> dict[str, Any]:
    """The same values from a scan of all rows."""
    turns = [turn async for turn in store.turns(tenant)]
    everything = [
        item for state in get_args(ExampleState) async for item in store.examples(tenant, state=state)
    ]
    cycles = await store.cycles(tenant, limit=99)
    return {
        "counts": {
            "turns": len(turns),
            "with_feedback": sum(turn.feedback is not None for turn in turns),
            "corrections": sum(bool(turn.feedback and turn.feedback.is_correction) for turn in turns),
            "awaiting_curation": sum([len(page) async for page in store.turns_awaiting_curation(tenant)]),
            "examples": dict(Counter(item.state for item in everything)),
            "gold": sum(item.state in ("pending", "learned") and item.is_gold for item in everything),
            "waiting": sum(
                item.state == "quarantined" and item.reason == "rolled back" for item in everything
            ),
            "cycles": len(cycles),
            "degraded": sum(turn.metadata.degraded for turn in turns),
        },
        "versions": [
            scanned_version([turn for turn in turns if turn.metadata.model_version == name])
            for name in VERSIONS
        ],
        "labels": scanned_labels(everything, await store.labels(tenant)),
        "tallies": scanned_tallies([row.result for row in cycles if row.result is not None]),
        "strata": {
            (state, gold): dict(
                Counter(
                    item.stratum
                    for item in everything
                    if item.state == state and gold in (None, item.is_gold)
                )
            )
            for state in get_args(ExampleState)
            for gold in KINDS_OF_EXAMPLES
        },
    }


def scanned_version(turns: list[Turn]) -> dict[str, int]:
    return {
        "turns": len(turns),
        "with_feedback": sum(turn.feedback is not None for turn in turns),
        "corrections": sum(bool(turn.feedback and turn.feedback.is_correction) for turn in turns),
        "degraded": sum(turn.metadata.degraded for turn in turns),
    }


def scanned_labels(everything: list[Example], schema: Any) -> dict[str, dict[str, int]]:
    usable = [item for item in everything if item.state != "quarantined"]
    carried = {
        "intent": Counter(item.intent for item in usable if item.intent is not None),
        "sentiment": Counter(item.sentiment for item in usable if item.sentiment is not None),
        "entities": Counter(label for item in usable for label in {s.label for s in item.entities or ()}),
    }
    for item in usable:
        if item.is_gold and item.intent is not None:
            assert item.intent in schema["intent"]
    return {task: {name: n for name, n in carried[task].items() if name in schema[task]} for task in TASKS}


def scanned_tallies(results: list[Any]) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for result in results:
        sums.update({"total": 1, result.status: 1, "improved": int(result.model_improved)})
        if "training" in result.stage_seconds:
            sums.update({"trained": 1, "training_seconds": result.stage_seconds["training"]})
    return {name: amount for name, amount in sums.items() if amount}
