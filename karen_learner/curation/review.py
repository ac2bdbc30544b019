"""Review of texts by people: the queue, the lease on an item, decisions as gold, and undo."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from asyncio_extras import call_in_executor

from karen_learner.contracts import Clock, MemoryStore
from karen_learner.curation.curator import Curator
from karen_learner.curation.quarantine import LABEL, reason_of
from karen_learner.curation.selection import USABLE
from karen_learner.errors import InvalidInput
from karen_learner.records import (
    TASKS,
    Contribution,
    DoubtfulLabel,
    EntitySpan,
    Example,
    ExampleState,
    LabelledText,
    Task,
    Turn,
)
from karen_learner.records.reviews import Claim, ItemKind, Review, ReviewDecision, ReviewItem
from karen_learner.resolution import label_of
from karen_learner.text_identity import text_key

LEASE = timedelta(minutes=10)
MAX_EXAMPLES = 200
"""Newest examples of each state in the queue."""
MAX_CYCLES = 20
"""Newest cycles that are searched for doubtful labels."""
MAX_TURNS = 1_000
"""Newest turns that are searched for uncertain answers."""
EXAMPLE, TURN = "example/", "turn/"
"""Prefixes of the ids of items."""


class ReviewDesk:
    """The items that people may label, ordered by conflict, then by confidence.

    A reviewer is a name of the caller. An item is leased to one reviewer at a time.
    """

    def __init__(self, store: MemoryStore, curator: Curator, *, clock: Clock) -> None:
        self._store = store
        self._curator = curator
        self._clock = clock

    async def items(self, tenant_id: str, reviewer: str) -> list[ReviewItem]:
        """The items that this reviewer may open now."""
        found = [*await self._disputed(tenant_id), *await self._uncertain(tenant_id)]
        reviews = await self._store.reviews(tenant_id, [one.item_id for one in found])
        now = self._clock()
        return [one for one in found if _is_open(reviews.get(one.item_id), reviewer, now)]

    async def open(self, tenant_id: str, item_id: str, reviewer: str) -> Review | None:
        """The review of an item, leased to the reviewer for `LEASE`; None if it is another one's."""
        now = self._clock()
        return await self._store.claim_review(tenant_id, item_id, reviewer, now=now, until=now + LEASE)

    async def item(self, tenant_id: str, item_id: str) -> ReviewItem | None:
        """An item by its id, also a decided one; None if its text was removed."""
        if item_id.startswith(EXAMPLE):
            name = item_id.removeprefix(EXAMPLE)
            example = (await self._store.examples_by_id(tenant_id, [name])).get(name)
            if example is None or not example.text:
                return None
            doubt = (await self._doubts(tenant_id)).get(name)
            return await self._of_example(tenant_id, example, doubt)
        turn = await self._store.get_turn(tenant_id, item_id.removeprefix(TURN))
        return None if turn is None or not turn.is_permitted else _of_turn(turn)

    async def save_draft(self, tenant_id: str, item_id: str, reviewer: str, draft: Mapping[str, Any]) -> bool:
        """Keep the unfinished work of a reviewer; False if the item is another one's."""
        if await self.open(tenant_id, item_id, reviewer) is None:
            return False
        return await self._store.change_review(tenant_id, item_id, reviewer, draft=dict(draft))

    async def decide(
        self,
        tenant_id: str,
        item_id: str,
        reviewer: str,
        decision: ReviewDecision,
        labels: LabelledText | None,
    ) -> bool:
        """Record a decision; `saved` stores the labels as gold. False if the item is another one's.

        Raises InvalidInput for labels that cannot be stored. If the process ends in between, the gold is
        stored and the item is open: the decision can be repeated.
        """
        item = await self.item(tenant_id, item_id)
        if item is None or await self.open(tenant_id, item_id, reviewer) is None:
            return False
        if decision == "saved":
            await self._save_gold(tenant_id, item, reviewer, labels)
        return await self._store.change_review(
            tenant_id, item_id, reviewer, draft=None, decision=decision, decided_at=self._clock()
        )

    async def undo(self, tenant_id: str, reviewer: str) -> str | None:
        """Undo the last decision of a reviewer, and open its item again; its id, or None without one."""
        last = await self._store.last_review(tenant_id, reviewer)
        if last is None:
            return None
        item = await self.item(tenant_id, last.item_id)
        if last.decision == "saved" and item is not None:
            await self._curator.withdraw_gold(tenant_id, item.text, item.turn_id)
        await self._store.change_review(tenant_id, last.item_id, reviewer, draft=None)
        await self.open(tenant_id, last.item_id, reviewer)
        return last.item_id

    async def _save_gold(
        self, tenant_id: str, item: ReviewItem, reviewer: str, labels: LabelledText | None
    ) -> None:
        if labels is None or not labels.tasks or labels.text != item.text:
            raise InvalidInput("give the text at least one label")
        gold = {**labels.model_dump(exclude={"unannotated"}), "turn_id": item.turn_id, "user_id": reviewer}
        report = await self._curator.add_gold(tenant_id, [gold], source="reviewed", replace=True)
        if report.skipped:
            raise InvalidInput(report.skipped[0].reason)

    # The queue -------------------------------------------------------------------------------

    async def _disputed(self, tenant_id: str) -> list[ReviewItem]:
        """Conflicts, then examples with a doubtful label, then those with a label outside the schema."""
        conflicts = await _first(self._store, tenant_id, "conflict")
        doubts = await self._doubts(tenant_id)
        stored = await self._store.examples_by_id(tenant_id, list(doubts))
        doubtful = [one for name, one in stored.items() if _is_stated(one, doubts[name])]
        excluded = await _first(self._store, tenant_id, "quarantined")
        unknown = [one for one in excluded if reason_of(one) == LABEL]
        return [
            await self._of_example(tenant_id, one, doubts.get(one.example_id))
            for one in (*conflicts, *doubtful, *unknown)
            if one.text
        ]

    async def _doubts(self, tenant_id: str) -> dict[str, DoubtfulLabel]:
        """The labels that cycles found doubtful, back to the last full training, by example id."""
        doubts: dict[str, DoubtfulLabel] = {}
        for row in await self._store.cycles(tenant_id, limit=MAX_CYCLES):
            if row.result is None or row.result.validation is None:
                continue  # without shadows
            for one in row.result.doubtful_labels:
                doubts.setdefault(one.example_id, one)
            if row.mode == "full":
                break
        return doubts

    async def _of_example(
        self, tenant_id: str, example: Example, doubt: DoubtfulLabel | None = None
    ) -> ReviewItem:
        contributed = (await self._store.contributions(tenant_id, [example.key])).get(example.key, ())
        kind, why = _kind_and_reason(example, doubt)
        return ReviewItem(
            **_labels(example),
            item_id=f"{EXAMPLE}{example.example_id}",
            kind=kind,
            why=why,
            turn_id=example.turn_id or f"review/{example.example_id}",
            claims=claims_of(contributed),
            at=example.created_at,
        )

    async def _uncertain(self, tenant_id: str) -> list[ReviewItem]:
        """Turns without feedback, those with the least certain intent first; one of several equal texts."""
        turns = await self._store.newest_turns(tenant_id, limit=MAX_TURNS)
        found: dict[str, ReviewItem] = await call_in_executor(_uncertain_turns, turns)
        known = await self._store.examples_by_key(tenant_id, list(found))
        return [item for key, item in found.items() if key not in known or not known[key].is_gold]


def _is_stated(example: Example, doubt: DoubtfulLabel) -> bool:
    """Whether a cycle may learn the example, and its label still is the doubtful one of feedback."""
    usable = example.state in USABLE and not example.is_gold
    return usable and label_of(example, doubt.task) == doubt.stated


def _kind_and_reason(example: Example, doubt: DoubtfulLabel | None) -> tuple[ItemKind, str]:
    if doubt is not None and _is_stated(example, doubt):
        shadows = "models that have not learned the text"
        return "doubtful", f"feedback says {doubt.stated!r}; {shadows} say {doubt.predicted!r}"
    kind: ItemKind = "conflict" if example.state == "conflict" else "unknown_label"
    return kind, example.reason or "its labels were decided"


async def _first(store: MemoryStore, tenant_id: str, state: ExampleState) -> list[Example]:
    found: list[Example] = []
    rows: AsyncIterator[Example] = store.examples(tenant_id, state=state, newest_first=True)
    async for example in rows:
        found.append(example)
        if len(found) == MAX_EXAMPLES:
            break
    return found


def _uncertain_turns(turns: Sequence[Turn]) -> dict[str, ReviewItem]:
    unlabelled = [turn for turn in turns if turn.is_permitted and turn.feedback is None]
    unlabelled.sort(key=lambda turn: turn.metadata.intent_confidence)
    found: dict[str, ReviewItem] = {}
    for turn in unlabelled:
        found.setdefault(text_key(turn.user_text or ""), _of_turn(turn))
    return found


def _of_turn(turn: Turn) -> ReviewItem:
    found = turn.metadata
    by = "the fallback" if found.degraded else found.model_version or "the analyzer"
    sure = f"{by} was {100 * found.intent_confidence:.0f} % sure of the intent"
    return ReviewItem(
        text=turn.user_text or "",
        intent=found.intent_detected,
        sentiment=found.sentiment_detected,
        entities=tuple(EntitySpan(start=one.start, end=one.end, label=one.label) for one in turn.entities),
        item_id=f"{TURN}{turn.turn_id}",
        kind="uncertain",
        why=f"{sure}, and the answer has no correction or rating",
        turn_id=turn.turn_id,
        confidence=found.intent_confidence,
        version=found.model_version,
        at=found.occurred_at,
    )


def _labels(example: Example) -> dict[str, Any]:
    return {name: getattr(example, name) for name in LabelledText.model_fields}


def claims_of(contributed: Sequence[Contribution]) -> tuple[Claim, ...]:
    """The claimed labels of each task with the numbers of people, the most frequent first."""
    people: dict[tuple[Task, str], set[object]] = {}
    for number, one in enumerate(contributed):
        for task in one.tasks:
            people.setdefault((task, _words(one, task)), set()).add(one.person or number)
    found = [Claim(task=task, label=label, people=len(several)) for (task, label), several in people.items()]
    return tuple(sorted(found, key=lambda one: (TASKS.index(one.task), -one.people, one.label)))


def _words(one: LabelledText, task: Task) -> str:
    if task != "entities":
        return str(label_of(one, task))
    return ", ".join(f"{s.label}: {one.text[s.start : s.end]}" for s in one.entities or ()) or "(none)"


def _is_open(review: Review | None, reviewer: str, now: datetime) -> bool:
    if review is None:
        return True
    if review.decision == "skipped":
        return review.reviewer != reviewer
    return review.decision is None and (review.reviewer == reviewer or review.leased_until <= now)
