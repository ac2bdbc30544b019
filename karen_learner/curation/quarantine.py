"""Examples that are not learned until a person decides: quarantined, in conflict, or waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator

from karen_learner.contracts import MemoryStore
from karen_learner.records import (
    DISCARDED,
    DUPLICATE,
    NO_CONSENT,
    ROLLED_BACK,
    Example,
    ExampleState,
    Quarantine,
    QuarantinedExample,
)

LABEL, CONFLICT = "label", "conflict"
NOT_RELEASED = {
    CONFLICT: "people disagree; give the text its label as gold (`karen-learner ingest`)",
    LABEL: "its label is not in the schema, or its spans do not fit; correct the label, or add gold with it",
    DUPLICATE: "a newer example has the same text: nothing is to be done",
    NO_CONSENT: "its user refused consent: the text is removed",
    "withdrawn": "its user replaced the rating: new feedback decides",
}
"""The reasons whose examples cannot be released, with the remedy."""
EXCLUDED: tuple[ExampleState, ...] = ("quarantined", "conflict")
REASONS = (
    "harmful",
    ROLLED_BACK,
    DISCARDED,
    CONFLICT,
    LABEL,
    DUPLICATE,
    NO_CONSENT,
    "withdrawn",
)


async def quarantine(
    store: MemoryStore, tenant_id: str, *, reason: str | None = None, limit: int = 100
) -> Quarantine:
    """The newest `limit` examples of a reason, or of all, and the number of examples by reason."""
    counts: dict[str, int] = {}
    found: list[QuarantinedExample] = []
    async for example in _excluded(store, tenant_id):
        kind = reason_of(example)
        counts[kind] = counts.get(kind, 0) + 1
        if reason in (None, kind) and len(found) < limit:
            found.append(_listed(example, kind))
    return Quarantine(tenant_id=tenant_id, counts=counts, examples=tuple(found))


async def ids_of(store: MemoryStore, tenant_id: str, reason: str) -> list[str]:
    """The ids of all examples of a reason."""
    return [one.example_id async for one in _excluded(store, tenant_id) if reason_of(one) == reason]


def reason_of(example: Example) -> str:
    """The reason in one word. `Example.reason` of an unusable label or a conflict describes it."""
    if example.state == "conflict":
        return CONFLICT
    return example.reason if example.reason in REASONS else LABEL


async def _excluded(store: MemoryStore, tenant_id: str) -> AsyncIterator[Example]:
    for state in EXCLUDED:
        async for example in store.examples(tenant_id, state=state, newest_first=True):
            yield example


def _listed(example: Example, kind: str) -> QuarantinedExample:
    detail = example.reason if example.reason != kind else None
    return QuarantinedExample(
        example_id=example.example_id,
        text=example.text,
        intent=example.intent,
        sentiment=example.sentiment,
        entities=example.entities,
        reason=kind,
        detail=detail,
        remedy=NOT_RELEASED.get(kind),
        is_gold=example.is_gold,
        learned_in=example.learned_in,
        created_at=example.created_at,
    )
