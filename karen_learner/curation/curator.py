"""Stored metadata becomes a trusted data set, and a trusted data set what a cycle trains on."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from karen_learner.contracts import MemoryStore
from karen_learner.curation.balance import BalancedSelection, balanced
from karen_learner.curation.batches import batches
from karen_learner.curation.candidates import UNKNOWN_LABEL, Schema, Unusable, candidate, problem
from karen_learner.curation.gold import GoldIntake
from karen_learner.curation.keys import example_id, group_key, text_key
from karen_learner.curation.merge import Fate, Ledger
from karen_learner.curation.pages import USABLE, settle, split_rules, usable_strata
from karen_learner.curation.replay import REPLAY_POOL, sample_replay
from karen_learner.curation.spans import TokenAligner
from karen_learner.curation.splits import spread_shares
from karen_learner.records import (
    AwaitingTurn,
    CurationCounts,
    CycleMode,
    Example,
    GoldReport,
    LabelledText,
    Record,
    Split,
    Turn,
)
from karen_learner.settings import Settings

Reading = Example | Unusable
OnPage = Callable[[CurationCounts], Awaitable[None] | None]

PREVIEW_MEMORY = 50_000
"""Changed texts that a preview remembers: beyond that, its counts of duplicates are estimates."""


class Selection(Record):
    """What a cycle trains on: examples that are new to the model, learned ones to replay, and turns that
    nobody labelled.

    With `importance_weights` (one for each of `replay`), `replay` is a pool to draw from. Without them,
    training uses all of it.
    """

    new: tuple[Example, ...]
    replay: tuple[Example, ...]
    importance_weights: tuple[float, ...] | None = None
    unlabelled: tuple[Turn, ...] = ()


class Curator:
    """Curates the turns of tenants, takes in gold and selects what to learn.

    The tokenizer of `language` (default: that of the training settings) decides which entity spans can
    be learned. Writes of one tenant are made one after the other within this object. Between processes,
    a page whose ground another has changed is decided anew (see `pages.settle`).
    """

    def __init__(self, store: MemoryStore, settings: Settings, *, language: str | None = None) -> None:
        self._store = store
        self._settings = settings
        self._aligner = TokenAligner(language or settings.training.language)
        self._writing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # Curation --------------------------------------------------------------------------------

    async def curate(
        self, tenant_id: str, *, token: int | None = None, on_page: OnPage | None = None
    ) -> CurationCounts:
        """Look at every turn that awaits it, page by page, each page saved in one transaction.

        Safe to repeat after a crash. `on_page` is called with the counts so far. Raises FencedOut when
        the lease of `token` is lost.
        """
        async with self._writing[tenant_id]:
            counts = CurationCounts()
            schema = await self._store.labels(tenant_id)
            async for page in self._store.turns_awaiting_curation(tenant_id):
                counts = _sum(counts, await self._curate_page(tenant_id, page, schema, token))
                await _tell(on_page, counts)
            return counts

    async def _curate_page(
        self, tenant_id: str, page: Sequence[AwaitingTurn], schema: Schema, token: int | None
    ) -> CurationCounts:
        readings = await self._read(page, schema)
        return await settle(
            self._store,
            tenant_id,
            [key for _, key, _ in readings],
            lambda ledger: _heard(ledger, readings),
            self._settings,
            curated=[awaiting.mark for awaiting in page],
            token=token,
        )

    async def preview(self, tenant_id: str) -> CurationCounts:
        """What `curate` would count now, with nothing written."""
        counts = CurationCounts()
        schema = await self._store.labels(tenant_id)
        imagined: dict[str, Example] = {}
        async for page in self._store.turns_awaiting_curation(tenant_id):
            readings = await self._read(page, schema)
            keys = Ledger.keys(key for _, key, _ in readings)
            known = dict(await self._store.examples_by_key(tenant_id, keys))
            ledger = Ledger(known | {key: imagined[key] for key in keys if key in imagined})
            counts = _sum(counts, await asyncio.to_thread(_heard, ledger, readings))
            imagined |= {row.key: row for row in (*ledger.born(), *ledger.altered())}
            for key in list(imagined)[: max(0, len(imagined) - PREVIEW_MEMORY)]:
                del imagined[key]
        return counts

    async def _read(self, page: Sequence[AwaitingTurn], schema: Schema) -> list[tuple[str, str, Reading]]:
        """The turn id, the text's key and the reading of each turn; in a thread, for the tokenizer."""
        return await asyncio.to_thread(lambda: [self._reading(awaiting.turn, schema) for awaiting in page])

    def _reading(self, turn: Turn, schema: Schema) -> tuple[str, str, Reading]:
        reading = candidate(
            turn,
            schema=schema,
            misfit=self._aligner.misfit,
            quality_threshold=self._settings.learning.quality_threshold,
            seed=self._settings.training.seed,
        )
        return turn.turn_id, text_key(turn.user_text or ""), reading

    # Gold ------------------------------------------------------------------------------------

    async def add_gold(
        self,
        tenant_id: str,
        records: AsyncIterable[LabelledText | Mapping[str, Any]] | Iterable[LabelledText | Mapping[str, Any]],
        *,
        source: Literal["seed", "reviewed"] = "seed",
    ) -> GoldReport:
        """Take in labelled texts that are known to be right, and declare their labels.

        Everything is read and checked before anything is written; a slow stream holds nobody up. Needs
        no lease: gold may come in beside a cycle. Feedback that was quarantined for a label declared now
        is heard again. Raises LabelCollision if one label would stand for an intent and for a sentiment.
        """
        with GoldIntake(self._settings, self._aligner, source=source) as intake:
            await intake.read(records)
            async with self._writing[tenant_id]:
                return await self._take_in(tenant_id, intake)

    async def _take_in(self, tenant_id: str, intake: GoldIntake) -> GoldReport:
        schema = await self._store.labels(tenant_id)
        intake.check_labels(schema)
        if intake.labels:
            await self._store.declare_labels(tenant_id, intake.labels)
        report = await self._store_gold(tenant_id, intake)
        if intake.new_labels(schema):
            await self._hear_again(tenant_id)
        return report

    async def _store_gold(self, tenant_id: str, intake: GoldIntake) -> GoldReport:
        rules = split_rules(self._settings, await usable_strata(self._store, tenant_id))
        shares = spread_shares(intake.strata, rules)
        added = merged = 0
        async for page in intake.pages():
            fates = await settle(
                self._store,
                tenant_id,
                [example.key for example in page],
                partial(_received, page),
                self._settings,
                shares=shares,
            )
            added += fates.count("accepted")
            merged += fates.count("merged")
        return intake.report(added=added, merged=merged)

    async def _hear_again(self, tenant_id: str) -> None:
        """Give the examples quarantined for a label that nobody knew another hearing."""
        schema = await self._store.labels(tenant_id)
        quarantined = self._store.examples(tenant_id, state="quarantined")
        async for page in batches(quarantined, self._settings.store.page_size):
            released = await asyncio.to_thread(self._releasable, page, schema)
            if not released:
                continue
            await settle(
                self._store,
                tenant_id,
                [text_key(row.text) for row in released],
                partial(_heard_again, released),
                self._settings,
            )

    def _releasable(self, page: Sequence[Example], schema: Schema) -> list[Example]:
        unknown = (row for row in page if (row.reason or "").startswith(UNKNOWN_LABEL) and row.text)
        return [row for row in unknown if problem(row, schema=schema, misfit=self._aligner.misfit) is None]

    # Selection -------------------------------------------------------------------------------

    async def select(self, tenant_id: str, *, mode: CycleMode, rng: random.Random | None = None) -> Selection:
        """What a cycle trains on; examples of other splits than `train` never.

        incremental: up to `max_training_examples` pending examples, balanced, and a pool of learned ones,
        REPLAY_POOL times the `replay_examples`, and turns without feedback. full: all examples, balanced
        above `max_full_examples`; `new` are the pending ones. `rng` (default: fresh) draws the pool.
        """
        if mode == "full":
            return await self._select_all(tenant_id)
        learning = self._settings.learning
        pending = self._store.examples(tenant_id, state="pending", split="train", newest_first=True)
        new = await balanced(pending, learning.max_training_examples)
        drawn = await sample_replay(
            self._store,
            tenant_id,
            limit=REPLAY_POOL * learning.replay_examples,
            rng=rng or random.SystemRandom(),
        )
        ids = {example.example_id for example in new}
        pool = [one for one in drawn if one.example.example_id not in ids]
        return Selection(
            new=tuple(new),
            replay=tuple(one.example for one in pool),
            importance_weights=tuple(one.importance_weight for one in pool),
            unlabelled=await self._unlabelled(tenant_id),
        )

    async def _unlabelled(self, tenant_id: str) -> tuple[Turn, ...]:
        """The newest turns without feedback, a text once; none that is an example, or near one that is held
        back for choosing and judging models."""
        turns = await self._store.unlabelled_turns(tenant_id, limit=self._settings.learning.unlabelled_turns)
        by_key, groups = await asyncio.to_thread(_keyed, turns)
        known = await self._store.examples_by_key(tenant_id, list(by_key))
        groups = {key: group for key, group in groups.items() if key not in known}
        splits = await self._store.splits_by_group(tenant_id, sorted(set(groups.values())))
        return tuple(by_key[key] for key, group in groups.items() if splits.get(group, "train") == "train")

    async def _select_all(self, tenant_id: str) -> Selection:
        selection = BalancedSelection(self._settings.learning.max_full_examples)
        async for example in self._in_split(tenant_id, "train"):
            selection.add(example)
        picks = selection.picks()
        return Selection(
            new=tuple(example for example in picks if example.state == "pending"),
            replay=tuple(example for example in picks if example.state == "learned"),
        )

    def dev(self, tenant_id: str) -> AsyncIterator[Example]:
        """The examples on which the best weights are chosen."""
        return self._in_split(tenant_id, "dev")

    async def holdout(self, tenant_id: str) -> AsyncIterator[Example]:
        """The examples by which models are judged: gold, and feedback on which several users agree.

        A near-duplicate that only one user labelled stays in this split, so that nobody trains on it,
        but judges nothing.
        """
        async for example in self._in_split(tenant_id, "holdout"):
            if example.is_gold or example.users >= 2:
                yield example

    async def _in_split(self, tenant_id: str, split: Split) -> AsyncIterator[Example]:
        for state in USABLE:
            async for example in self._store.examples(tenant_id, state=state, split=split):
                yield example


def _keyed(turns: Sequence[Turn]) -> tuple[dict[str, Turn], dict[str, str]]:
    """The turns by the keys of their texts, and the near-duplicate group of each key."""
    by_key = {text_key(turn.user_text): turn for turn in turns if turn.user_text}
    return by_key, {key: group_key(turn.user_text or "") for key, turn in by_key.items()}


def _heard(ledger: Ledger, readings: Iterable[tuple[str, str, Reading]]) -> CurationCounts:
    """Enter the readings into the ledger and count what became of them."""
    fates: Counter[str] = Counter()
    for turn_id, key, reading in readings:
        if isinstance(reading, Example):
            fates[ledger.receive(reading)] += 1
        else:
            ledger.withdraw(key, turn_id)
            fates[reading] += 1
    return CurationCounts(turns=fates.total(), **fates)


def _received(page: Sequence[Example], ledger: Ledger) -> list[Fate]:
    return ledger.receive_all(page)


def _heard_again(rows: Iterable[Example], ledger: Ledger) -> None:
    """Let the words of quarantined rows be heard as if they came in now, as far as they still stand."""
    for row in rows:
        if ledger.stores(row):
            ledger.settle(row)
            ledger.receive(row.model_copy(update=_as_newcomer(row)))


def _sum(one: CurationCounts, other: CurationCounts) -> CurationCounts:
    return CurationCounts(
        **{name: getattr(one, name) + getattr(other, name) for name in CurationCounts.model_fields}
    )


async def _tell(on_page: OnPage | None, counts: CurationCounts) -> None:
    if on_page is not None:
        answer = on_page(counts)
        if inspect.isawaitable(answer):
            await answer


def _as_newcomer(row: Example) -> dict[str, Any]:
    """What makes a stored row the word of one user, as if its turn had just been read."""
    key = text_key(row.text)
    return {
        "key": key,
        "example_id": example_id(key=key, turn_id=row.turn_id),
        "state": "pending",
        "reason": None,
        "users": 1,
        "seq": None,
    }
