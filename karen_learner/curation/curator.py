"""Curation of a tenant: turns and gold become examples, and examples the data of a cycle."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import closing

from asyncio_extras import call_in_executor
from cachetools import FIFOCache

from karen_learner.batching import pages
from karen_learner.contracts import MemoryStore
from karen_learner.curation.examples import (
    UNKNOWN_LABEL,
    Schema,
    TokenAligner,
    Unusable,
    example_from_turn,
    label_problem,
    text_key,
)
from karen_learner.curation.gold import GoldIntake, GoldRecord, GoldSource
from karen_learner.curation.resolver import (
    LabelResolver,
    PageEntry,
    Release,
    Resolution,
    Withdrawal,
    contributions_of,
    stored_keys,
)
from karen_learner.curation.selection import (
    Curated,
    in_split,
    select_full,
    select_incremental,
)
from karen_learner.curation.splits import Shares, shares_for, with_splits
from karen_learner.records import (
    CurationCounts,
    CurationWrite,
    CycleMode,
    Example,
    GoldReport,
    ReadSet,
    Turn,
)
from karen_learner.settings import Settings

PREVIEW_MEMORY = 50_000
"""Maximum number of changed examples in a preview. Beyond it, the counts of duplicates are estimates."""


class Curator:
    """Curates turns, stores gold, and selects the data of cycles.

    The tokenizer of `training.language` checks entity spans. This object writes the pages of one tenant one
    after the other. A page that conflicts with another process is repeated.
    """

    def __init__(self, store: MemoryStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._aligner = TokenAligner(settings.training.language)
        self._writing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # Turns -----------------------------------------------------------------------------------

    async def curate(self, tenant_id: str, *, token: int | None = None) -> CurationCounts:
        """Curate all turns that await it, page by page, one transaction each.

        Safe to repeat after a crash. Raises FencedOut if the lease of `token` is lost.
        """
        results: Counter[str] = Counter()
        async with self._writing[tenant_id]:
            async for entries, curated in self._awaiting(tenant_id):
                results.update(await self._apply(tenant_id, entries, curated=curated, token=token))
        return CurationCounts(turns=results.total(), **results)

    async def preview(self, tenant_id: str) -> CurationCounts:
        """The counts that `curate` would return now. Writes nothing."""
        results: Counter[str] = Counter()
        changed: FIFOCache[str, Example] = FIFOCache(PREVIEW_MEMORY)
        async for entries, _ in self._awaiting(tenant_id):
            keys = stored_keys(entries)
            stored = await self._store.examples_by_key(tenant_id, keys)
            resolver = LabelResolver({**stored, **{key: changed[key] for key in keys if key in changed}})
            results.update(await call_in_executor(resolver.resolve_all, entries))
            changed.update((example.key, example) for example in resolver.changes())
        return CurationCounts(turns=results.total(), **results)

    async def _awaiting(self, tenant_id: str) -> AsyncIterator[tuple[list[PageEntry], list[tuple[int, int]]]]:
        """Pages of turns that await curation: their entries and marks."""
        schema = await self._store.labels(tenant_id)
        async for turns in self._store.turns_awaiting_curation(tenant_id):
            entries = await call_in_executor(
                lambda turns=turns: [self._entry(awaiting.turn, schema) for awaiting in turns]
            )
            yield entries, [awaiting.mark for awaiting in turns]

    def _entry(self, turn: Turn, schema: Schema) -> PageEntry:
        example = example_from_turn(
            turn,
            schema=schema,
            aligner=self._aligner,
            quality_threshold=self._settings.learning.quality_threshold,
            seed=self._settings.training.seed,
        )
        if isinstance(example, Example):
            return example
        return Withdrawal(text_key(turn.user_text or ""), turn.turn_id, example)

    # Pages -----------------------------------------------------------------------------------

    async def _apply(
        self,
        tenant_id: str,
        entries: Sequence[PageEntry],
        *,
        shares: Shares | None = None,
        curated: Sequence[tuple[int, int]] = (),
        token: int | None = None,
    ) -> list[Resolution | Unusable]:
        """Resolve the entries of a page and write the result in one transaction.

        Repeats if another process has changed an example or a split that this one read.
        """
        keys = stored_keys(entries)
        while True:
            stored = await self._store.examples_by_key(tenant_id, keys)
            resolver = LabelResolver(stored)
            resolutions: list[Resolution | Unusable] = await call_in_executor(resolver.resolve_all, entries)
            upserts, splits = await with_splits(
                self._store, tenant_id, resolver.changes(), self._settings, known=stored, shares=shares or {}
            )
            said = await self._store.contributions(tenant_id, keys)
            new, replaced = contributions_of(entries, said)
            read_set = ReadSet(
                examples={key: stored.get(key) for key in keys},
                splits=splits,
                contributions={key: [each.seq or 0 for each in said.get(key, ())] for key in keys},
            )
            write = CurationWrite(
                upserts=upserts, contributions=new, replaced=replaced, curated=curated, read_set=read_set
            )
            if await self._store.save_curation(tenant_id, write, token=token):
                return resolutions

    # Gold ------------------------------------------------------------------------------------

    async def add_gold(
        self,
        tenant_id: str,
        records: AsyncIterable[GoldRecord] | Iterable[GoldRecord],
        *,
        source: GoldSource = "seed",
    ) -> GoldReport:
        """Store gold examples and declare their labels.

        All records are read and checked before the first write, without a lock. Needs no lease: a cycle may
        run at the same time. Feedback that is quarantined for a label declared now is resolved again.
        Raises LabelCollision if one label would be an intent and a sentiment.
        """
        with closing(GoldIntake(self._settings, self._aligner, source=source)) as intake:
            await intake.read(records)
            async with self._writing[tenant_id]:
                schema = await self._store.labels(tenant_id)
                if intake.labels:
                    await self._store.declare_labels(tenant_id, intake.labels)
                report = await self._store_gold(tenant_id, intake)
                if intake.has_new_labels(schema):
                    await self._release_quarantined(tenant_id)
                return report

    async def _store_gold(self, tenant_id: str, intake: GoldIntake) -> GoldReport:
        shares = await shares_for(self._store, tenant_id, intake.strata, self._settings)
        counts: Counter[str] = Counter()
        async for page in intake.pages():
            counts.update(await self._apply(tenant_id, page, shares=shares))
        return intake.report(added=counts["accepted"], merged=counts["merged"])

    async def _release_quarantined(self, tenant_id: str) -> None:
        """Resolve the examples that were quarantined for a label that is in the schema now."""
        schema = await self._store.labels(tenant_id)
        quarantined = self._store.examples(tenant_id, state="quarantined")
        async for page in pages(quarantined, self._settings.store.page_size):
            if releases := await call_in_executor(self._releases, page, schema):
                await self._apply(tenant_id, releases)

    def _releases(self, page: Sequence[Example], schema: Schema) -> list[Release]:
        return [
            Release(example)
            for example in page
            if (example.reason or "").startswith(UNKNOWN_LABEL)
            and example.text
            and label_problem(example, schema=schema, aligner=self._aligner) is None
        ]

    # The data of a cycle ---------------------------------------------------------------------

    async def select(self, tenant_id: str, *, mode: CycleMode, rng: random.Random | None = None) -> Curated:
        """Select the training data of a cycle. `rng` (default: a fresh one) draws the replay pool."""
        learning = self._settings.learning
        if mode == "full":
            return await select_full(self._store, tenant_id, learning)
        return await select_incremental(self._store, tenant_id, learning, rng or random.SystemRandom())

    def dev(self, tenant_id: str) -> AsyncIterator[Example]:
        """The examples for the choice of the best weights and for calibration."""
        return in_split(self._store, tenant_id, "dev")

    async def holdout(self, tenant_id: str) -> AsyncIterator[Example]:
        """The examples for the gate: gold, and feedback of several users.

        A near-duplicate that a single user labelled stays in this split, so that no cycle trains on it. It is
        omitted here.
        """
        async for example in in_split(self._store, tenant_id, "holdout"):
            if example.is_gold or example.users >= 2:
                yield example
