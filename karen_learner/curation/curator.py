"""Curation of a tenant: turns and gold become examples, and examples the data of a cycle."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from weakref import WeakValueDictionary

from asyncio_extras import call_in_executor
from cachetools import FIFOCache

from karen_learner.concurrency import pages
from karen_learner.contracts import MemoryStore
from karen_learner.curation.alignment import TokenAligner, Tokenizers
from karen_learner.curation.data_checks import LabelCounts
from karen_learner.curation.data_reports import LabelledFile, data_report
from karen_learner.curation.examples import Schema, Unusable, example_from_turn, label_problem
from karen_learner.curation.gold import GoldIntake, GoldRecord, GoldSource
from karen_learner.curation.meanings import Outdated, outdated_examples, store_renewed
from karen_learner.curation.new_labels import UnknownLabels
from karen_learner.curation.resolver import (
    LabelResolver,
    NewContribution,
    PageEntry,
    Release,
    Resolution,
    Withdrawal,
    stored_keys,
    with_present_labels,
)
from karen_learner.curation.selection import SAMPLERS, Curated, select_full, select_incremental
from karen_learner.records import (
    CATEGORY_TASKS,
    DISCARDED,
    Contribution,
    CurationCounts,
    CurationWrite,
    CycleMode,
    Example,
    GoldReport,
    LabelledText,
    ReadSet,
    Turn,
)
from karen_learner.records.data_reports import DataReport
from karen_learner.records.labels import LabelChange, LabelReport
from karen_learner.relabelling import relabelled_turn
from karen_learner.settings import Settings
from karen_learner.text_identity import text_key

logger = logging.getLogger(__name__)

PREVIEW_MEMORY = 50_000
"""Maximum number of changed texts in a preview. Beyond it, the counts of duplicates are estimates."""


class Curator:
    """Curates turns, stores gold, and selects the data of cycles.

    The tokenizer of a tenant's pipeline decides which entity spans fit, else that of `training.language`.
    This object writes the pages of one tenant one after the other. A page that conflicts with another process
    is repeated.
    """

    def __init__(
        self, store: MemoryStore, settings: Settings, *, tokenizers: Tokenizers | None = None
    ) -> None:
        self._store = store
        self._settings = settings
        self._tokenizers = tokenizers
        self._aligner_of_language = TokenAligner(settings.training.language)
        # An aligner keeps its tokenizer alive, and so its id unique. Those in use are shared for their locks.
        self._aligners: WeakValueDictionary[int, TokenAligner] = WeakValueDictionary()
        self._samplers: dict[str, str] = {}
        self._writing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def aligner(self, tenant_id: str) -> TokenAligner:
        """Fits spans to the tokens of the tenant's pipeline, else of `training.language`."""
        tokenizer = await self._tokenizers(tenant_id) if self._tokenizers is not None else None
        if tokenizer is None:
            return self._aligner_of_language
        aligner = self._aligners.get(id(tokenizer))
        if aligner is None:
            aligner = self._aligners[id(tokenizer)] = TokenAligner(tokenizer)
        return aligner

    # Turns -----------------------------------------------------------------------------------

    async def curate(self, tenant_id: str, *, token: int | None = None) -> CurationCounts:
        """Curate all turns that await it, page by page, one transaction each.

        A label that the schema lacks is declared if `learning.meaning_quorum` people use it. Safe to repeat
        after a crash. Raises FencedOut if the lease of `token` is lost.
        """
        results: Counter[str] = Counter()
        async with self._writing[tenant_id]:
            async for entries, curated in self._awaiting(tenant_id):
                results.update(await self._apply(tenant_id, entries, curated=curated, token=token))
            if results["quarantined"]:
                await self._declare_agreed_labels(tenant_id, token)
        return CurationCounts(turns=results.total(), **results)

    async def preview(self, tenant_id: str) -> CurationCounts:
        """The counts that `curate` would return now. Writes nothing."""
        results: Counter[str] = Counter()
        examples: FIFOCache[str, Example] = FIFOCache(PREVIEW_MEMORY)
        contributions: FIFOCache[str, tuple[Contribution, ...]] = FIFOCache(PREVIEW_MEMORY)
        async for entries, _ in self._awaiting(tenant_id):
            keys = stored_keys(entries)
            stored = await self._store.examples_by_key(tenant_id, keys)
            contributed = await self._store.contributions(tenant_id, keys)
            resolver = self._resolver(
                {**stored, **{key: examples[key] for key in keys if key in examples}},
                {**contributed, **{key: contributions[key] for key in keys if key in contributions}},
            )
            results.update(await call_in_executor(resolver.resolve_all, entries))
            examples.update((example.key, example) for example in resolver.changes())
            contributions.update(resolver.contributions())
        return CurationCounts(turns=results.total(), **results)

    async def outdated(self, tenant_id: str) -> Mapping[str, Sequence[Outdated]]:
        """The examples with a former meaning of their intent. See `curation/meanings.py`."""
        quorum = self._settings.learning.meaning_quorum
        return await outdated_examples(self._store, tenant_id, quorum=quorum)

    async def store_renewed(
        self, tenant_id: str, outdated: Iterable[Outdated], *, learned_in: str | None, token: int | None
    ) -> None:
        """Store the present intents of these examples. See `curation/meanings.py`."""
        async with self._writing[tenant_id]:
            await store_renewed(self._store, tenant_id, outdated, learned_in=learned_in, token=token)

    def _resolver(
        self, examples: Mapping[str, Example], contributions: Mapping[str, Sequence[Contribution]]
    ) -> LabelResolver:
        return LabelResolver(examples, contributions, quorum=self._settings.learning.meaning_quorum)

    async def _awaiting(self, tenant_id: str) -> AsyncIterator[tuple[list[PageEntry], list[tuple[int, int]]]]:
        """Pages of turns that await curation: their entries and marks."""
        schema, former = await self._store.labels(tenant_id), await self._store.label_successors(tenant_id)
        aligner = await self.aligner(tenant_id)
        async for turns in self._store.turns_awaiting_curation(tenant_id):
            entries = await call_in_executor(
                lambda turns=turns: [
                    self._entry(relabelled_turn(awaiting.turn, former), schema, aligner) for awaiting in turns
                ]
            )
            yield entries, [awaiting.mark for awaiting in turns]

    def _entry(self, turn: Turn, schema: Schema, aligner: TokenAligner) -> PageEntry:
        example = example_from_turn(
            turn,
            schema=schema,
            aligner=aligner,
            quality_threshold=self._settings.learning.quality_threshold,
            seed=self._settings.training.seed,
        )
        if isinstance(example, Example):
            return NewContribution.of(example, turn.metadata.occurred_at)
        return Withdrawal(text_key(turn.user_text or ""), turn.turn_id, example)

    # Pages -----------------------------------------------------------------------------------

    async def _apply(
        self,
        tenant_id: str,
        entries: Sequence[PageEntry],
        *,
        curated: Sequence[tuple[int, int]] = (),
        token: int | None = None,
    ) -> list[Resolution | Unusable]:
        """Resolve the entries of a page and write the result in one transaction.

        Repeats if another process has changed an example that this one read.
        """
        while True:
            entries = with_present_labels(entries, await self._store.label_successors(tenant_id))
            keys = stored_keys(entries)
            stored = await self._store.examples_by_key(tenant_id, keys)
            contributed = await self._store.contributions(tenant_id, keys)
            resolver = self._resolver(stored, contributed)
            resolutions: list[Resolution | Unusable] = await call_in_executor(resolver.resolve_all, entries)
            read_set = ReadSet(
                examples={key: stored.get(key) for key in keys},
                contributions={key: [each.seq or 0 for each in contributed.get(key, ())] for key in keys},
            )
            write = CurationWrite(
                upserts=resolver.changes(),
                contributions=resolver.added(),
                replaced=resolver.replaced(),
                curated=curated,
                read_set=read_set,
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
        replace: bool = False,
    ) -> GoldReport:
        """Store gold examples and declare their labels.

        All records are read and checked before the first write, without a lock. Needs no lease: a cycle may
        run at the same time. Feedback that is quarantined for a label declared now is resolved again. A
        record that contradicts an earlier one is skipped. So is one that contradicts stored gold, unless with
        `replace`. A label whose gold all comes under one new name is renamed. Raises LabelCollision if one
        label would be an intent and a sentiment.
        """

        async def stored(keys: Sequence[str]) -> Mapping[str, Sequence[Example | Contribution]]:
            return await self._gold_of(tenant_id, keys)

        intake = GoldIntake(
            self._settings,
            await self.aligner(tenant_id),
            source=source,
            stored=stored,
            replace=replace,
            successors=await self._store.label_successors(tenant_id),
        )
        with closing(intake):
            await intake.read(records)
            async with self._writing[tenant_id]:
                await self._rename_moved(tenant_id, intake)
                schema = await self._store.labels(tenant_id)
                if intake.labels:
                    await self._store.declare_labels(tenant_id, intake.labels)
                report = await self._store_gold(tenant_id, intake, schema)
                if intake.has_new_labels(schema):
                    await self._release_quarantined(tenant_id)
                return report

    async def _gold_of(
        self, tenant_id: str, keys: Sequence[str]
    ) -> Mapping[str, Sequence[Example | Contribution]]:
        """The stored gold of texts by key, without that which a person has discarded."""
        examples = await self._store.examples_by_key(tenant_id, keys)
        contributed = await self._store.contributions(tenant_id, list(examples))
        gold: dict[str, list[Example | Contribution]] = {}
        for key, example in examples.items():
            if example.reason != DISCARDED:
                several: list[Example | Contribution] = [*contributed.get(key, ()), example]
                gold[key] = [each for each in several if each.is_gold]
        return gold

    async def _store_gold(self, tenant_id: str, intake: GoldIntake, known: LabelCounts) -> GoldReport:
        counts: Counter[str] = Counter()
        async for page in intake.pages():
            counts.update(await self._apply(tenant_id, page))
        return intake.report(added=counts["accepted"], merged=counts["merged"], known=known)

    async def withdraw_gold(self, tenant_id: str, text: str, turn_id: str) -> None:
        """Remove the gold that a reviewer gave to the text of a turn. Former labels hold again."""
        withdrawal = Withdrawal(text_key(text), turn_id, "unlabelled", is_gold=True)
        async with self._writing[tenant_id]:
            await self._apply(tenant_id, [withdrawal])

    async def check_data(
        self, tenant_id: str, file: LabelledFile, test: LabelledFile | None, *, rare_below: int
    ) -> DataReport:
        """The findings in a file, also beside the stored gold. Stores nothing."""
        stored: dict[str, Sequence[LabelledText]] = {}
        async for page in pages([one.labelled.text for one in file.texts], self._settings.store.page_size):
            stored |= await self._gold_of(tenant_id, [text_key(text) for text in page])
        known, aligner = await self._store.labels(tenant_id), await self.aligner(tenant_id)
        report: DataReport = await call_in_executor(
            partial(
                data_report,
                file,
                test,
                aligner=aligner,
                stored=stored,
                known_labels=known,
                rare_below=rare_below,
            )
        )
        return report

    # Labels ----------------------------------------------------------------------------------

    async def _rename_moved(self, tenant_id: str, intake: GoldIntake) -> None:
        """Rename each label whose gold all comes under one new name."""
        changes: list[LabelChange] = []
        if intake.has_moved_labels:
            schema = await self._store.labels(tenant_id)
            gold = {task: await self._store.gold_labels(tenant_id, task) for task in CATEGORY_TASKS}
            changes = intake.renamed_labels(schema, gold)
        for change in changes:
            await self._store.change_label(tenant_id, change)
            logger.warning(
                "the %s %r is renamed to %r: all its gold comes under the new name",
                change.task, change.label, change.successor,
            )  # fmt: skip
        await call_in_executor(intake.settle, changes)

    async def change_label(self, tenant_id: str, change: LabelChange) -> LabelReport:
        """Rename, merge or retire a label. Feedback that becomes usable is resolved again."""
        async with self._writing[tenant_id]:
            report = await self._store.change_label(tenant_id, change)
            await self._release_quarantined(tenant_id)
        return report

    async def _declare_agreed_labels(self, tenant_id: str, token: int | None) -> None:
        """Declare the labels that a quorum of people uses, and resolve their contributions again."""
        unknown = UnknownLabels(await self._store.labels(tenant_id))
        former = await self._store.label_successors(tenant_id)
        async for page in self._store.unusable_contributions(tenant_id):
            unknown.add(page)
        if labels := unknown.used_by(self._settings.learning.meaning_quorum, former=former):
            await self._store.declare_labels(tenant_id, labels)
            await self._release_quarantined(tenant_id, token)

    async def _release_quarantined(self, tenant_id: str, token: int | None = None) -> None:
        """Resolve the contributions that have become usable because the schema has their labels now."""
        schema, aligner = await self._store.labels(tenant_id), await self.aligner(tenant_id)

        def usable(page: Sequence[Contribution]) -> list[Release]:
            return [
                Release(each) for each in page if label_problem(each, schema=schema, aligner=aligner) is None
            ]

        async for page in self._store.unusable_contributions(tenant_id):
            if releases := await call_in_executor(usable, page):
                await self._apply(tenant_id, releases, token=token)

    # The data of a cycle ---------------------------------------------------------------------

    async def select(self, tenant_id: str, *, mode: CycleMode, batches: int = 1) -> Curated:
        """Select the training data of a cycle.

        An incremental cycle takes up to `batches` times `learning.max_training_examples` new examples.
        """
        learning = self._settings.of(tenant_id).learning
        sampler = SAMPLERS.find(self._samplers.get(tenant_id, learning.sampler))
        if mode == "full":
            return await select_full(self._store, tenant_id, learning, sampler=sampler)
        seed = self._settings.training.seed
        return await select_incremental(
            self._store, tenant_id, learning, seed=seed, batches=batches, sampler=sampler
        )

    def use_sampler(self, tenant_id: str, name: str) -> None:
        """Use a sampler for a tenant in place of `learning.sampler`. Raises SettingsError."""
        SAMPLERS.find(name)
        self._samplers[tenant_id] = name
