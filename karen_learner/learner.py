"""`AutonomousLearner`: the operations of one home, delegated to its parts."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from asyncio_extras import call_in_executor

from karen_learner.analysis.spacy_analyzer import user_argument
from karen_learner.collection.erasure import erase_rows
from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.importers import CorpusSource
from karen_learner.corpora.parsing import ImportedLine
from karen_learner.corpora.transfer import ExportKind, OnLines
from karen_learner.curation.data_reports import RARE_BELOW, read_labelled_file
from karen_learner.curation.label_editor import Edit
from karen_learner.curation.quarantine import quarantine
from karen_learner.cycle import RequestedMode, check_mode
from karen_learner.errors import InvalidInput
from karen_learner.improvement.production_log import DecisionInput
from karen_learner.lifecycle import LearnerLifecycle
from karen_learner.memory.spool import copy_spools, erase_spooled
from karen_learner.models.home_archives import snapshot_for, write_archive
from karen_learner.models.packages import write_package
from karen_learner.models.versions import full_id, saved_labels
from karen_learner.monitoring.evaluator import LabelledSource, OnTexts
from karen_learner.monitoring.health import home_health
from karen_learner.records import (
    Analysis,
    ConversationMetadata,
    CycleMode,
    CycleRow,
    HomeBackup,
    HomeHealth,
    IngestReport,
    LabelledText,
    LearningCycleResult,
    LearningMetrics,
    LearningPlan,
    ModelVersion,
    PruneReport,
    Quarantine,
    RepairReport,
    Task,
    TenantStatus,
    UserFeedback,
    check_id,
    check_limit,
    check_several,
    replace_unfit,
)
from karen_learner.records.data_reports import DataReport
from karen_learner.records.decisions import LogReport
from karen_learner.records.erasure import Erasure
from karen_learner.records.evaluations import Evaluation, VersionComparison
from karen_learner.records.health import Finding
from karen_learner.records.labels import LabelReport, LabelRow
from karen_learner.records.packages import ModelPackage
from karen_learner.records.period_reports import ReportFormat, ReportKind, ReportPeriod, StoredReport

logger = logging.getLogger(__name__)

MAX_NOTE_CHARS = 1_000


class AutonomousLearner(LearnerLifecycle):
    """Collects conversations, learns from them, and serves each tenant's champion.

    Use it with `async with`, or call its methods (the first call starts it) and `await close()`. Closed, all
    methods raise LearnerClosed; in another event loop, or after a fork, WrongEventLoop.
    Synchronous programs use `karen_learner.blocking`. All data are below `home`; by default in SQLite, with a
    local worker process.

    `spacy_analyzer` is one of ours (`create_spacy_analyzer`), an `Analyzer`, or a host's object with
    `_detect_intent_async`, `_sentiment_async` and `_entities_async`. With one of ours, new tenants start from
    its pipeline; by default, from the base version of the home. `memory_service` receives every stored turn:
    a `HostMemory`, or a host's object with `store_web_ui_memory` and `query_memories`. `settings` is a `.cfg`
    file or loaded settings. `overrides` maps dotted names (`"learning.min_data_threshold"`) to values.
    `backend` replaces the local worker process, `gate` the rules that accept a candidate, and `sanitizer` the
    default removal of unfit characters. With `read_only` nothing is written: models answer, turns and cycles
    are refused. A home on a full or read-only disk is opened so with a warning, until it can be written.
    `clock` dates cycles and versions. Raises SettingsError.
    """

    # Conversations ---------------------------------------------------------------------------

    async def collect_conversation_metadata(
        self,
        tenant_id: str,
        user_text: str,
        assistant_response: str,
        user_id: str,
        user_feedback: UserFeedback | Mapping[str, Any] | None = None,
        *,
        conversation_id: str | None = None,
        turn_id: str | None = None,
        occurred_at: datetime | None = None,
        analysis: Analysis | None = None,
    ) -> ConversationMetadata:
        """Analyse and store one turn. It is on disk when this returns.

        A present `analysis` of the text by this learner is stored in place of a new one.
        A repeated `turn_id` is the same turn: its feedback is merged into the stored one. Raises
        InvalidInput, with nothing stored.
        """
        await self._serve(tenant_id)
        metadata = await self._collector.collect(
            tenant_id,
            user_text,
            assistant_response,
            user_id,
            user_feedback,
            conversation_id=conversation_id,
            turn_id=turn_id,
            occurred_at=occurred_at,
            analysis=analysis,
        )
        await self._forward(tenant_id, metadata.turn_id)
        return metadata

    async def add_feedback(
        self, tenant_id: str, turn_id: str, feedback: UserFeedback | Mapping[str, Any]
    ) -> ConversationMetadata:
        """Merge later feedback into a stored turn. Raises UnknownTurn, InvalidInput."""
        await self.start()
        metadata = await self._collector.add_feedback(tenant_id, turn_id, feedback)
        await self._forward(tenant_id, turn_id)
        return metadata

    async def _forward(self, tenant_id: str, turn_id: str) -> None:
        """Forward a turn in its stored form to the host's memory, if there is one. Its errors are logged."""
        if self._memory is None or (turn := await self.store.get_turn(tenant_id, turn_id)) is None:
            return
        try:
            await self._memory.remember(turn)
        except Exception:  # the host's memory is foreign code: the store has the turn
            logger.exception("the host's memory failed on turn %r", turn_id)

    async def log_decision(self, tenant_id: str, decision: DecisionInput) -> str:
        """Store an entry of the production log, and return its key. It is on disk when this returns.

        An entry with a stored `entry_id` is the same entry. Raises InvalidInput, with nothing stored.
        """
        check_id(tenant_id, "tenant_id")
        await self.start()
        return await self._log.log(tenant_id, decision)

    async def ingest_decisions(
        self, tenant_id: str, path: Path | str, *, on_lines: OnLines | None = None
    ) -> LogReport:
        """Import a file of log entries as JSON lines. Corrupt ones are counted by reason.

        Raises InvalidInput for a file that cannot be read, StoreError.
        """
        check_id(tenant_id, "tenant_id")
        await self.start()
        return await self._log.import_file(tenant_id, Path(path), on_lines=on_lines)

    async def erase_decisions(
        self,
        tenant_id: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        subject: str | None = None,
    ) -> int:
        """Remove contents and ids of the log entries of a user, a session or a subject; their number.

        Their numbers stay for statistics. Raises InvalidInput if none of them is given.
        """
        check_id(tenant_id, "tenant_id")
        await self.start()
        return await self._log.erase(tenant_id, user_id=user_id, session_id=session_id, subject=subject)

    async def erase_user(self, tenant_id: str, user_id: str, *, dry_run: bool = False) -> Erasure:
        """Erase a user's texts, feedback and id from turns, examples, log entries, stream events and spools.

        Turns keep their ids, detected labels and ratings under a random user id. A text that gold or another
        person gave, too, stays an example. Training texts on disk are removed. The live model was trained
        with the texts until a full cycle. With `dry_run` nothing changes. An interrupted erasure is completed
        by another one. Raises UnknownTenant, InvalidInput.
        """
        check_id(tenant_id, "tenant_id")
        check_id(user_id, "user_id")
        await self.start()
        spooled = await erase_spooled(self.layout.spool, tenant_id, user_id, dry_run=dry_run)
        if dry_run:
            rows = await self.store.personal_rows(tenant_id, user_id)
        else:
            rows = await erase_rows(self.store, tenant_id, user_id)
            # a process that started meanwhile has moved entries of an ended one to its own file
            spooled += await erase_spooled(self.layout.spool, tenant_id, user_id)
        rows = rows.model_copy(update={"spooled": spooled})
        if not rows.total:  # else the tenant may have log entries, events or spooled turns alone
            await self._require(tenant_id)
        if dry_run:
            return Erasure(done=False, rows=rows)
        removed = await self._cycle.remove_corpora(tenant_id)
        return Erasure(done=True, rows=rows, corpora=removed or 0, corpora_in_use=removed is None)

    async def analyze(self, tenant_id: str, text: str, *, user_id: str | None = None) -> Analysis:
        """Analysis of a text by the tenant's live model. Stores nothing. Raises InvalidInput.

        While a holdback runs, it answers a share of the users with the former version.
        """
        await self._serve(tenant_id)
        user = user_argument(self.analyzer, user_id)
        return await self.analyzer.analyze(text, tenant_id=tenant_id, **user)

    async def analyze_many(
        self, tenant_id: str, texts: Sequence[str], *, user_id: str | None = None
    ) -> list[Analysis]:
        """Analyses of many texts, in order, of one user if given. Stores nothing. Raises InvalidInput."""
        await self._serve(tenant_id)
        user = user_argument(self.analyzer, user_id)
        return await self.analyzer.analyze_many(texts, tenant_id=tenant_id, **user)

    # Learning --------------------------------------------------------------------------------

    async def bootstrap(
        self, tenant_id: str, examples: LabelledSource, *, mode: CycleMode = "full", replace: bool = False
    ) -> LearningCycleResult:
        """The first model of a tenant from labelled texts (records, dicts, or a file).

        A later call adds gold examples. Unusable examples are skipped, and logged with their position or
        line. So are those that contradict each other, or stored gold that they are not to `replace`. Raises
        LabelCollision, ImportFormatError.
        """
        check_id(tenant_id, "tenant_id")
        check_mode(mode)
        if not isinstance(examples, (CorpusFile, Path, str, AsyncIterable)):
            check_several(examples, "examples")
        await self.start()
        await self._start_worker()
        if isinstance(examples, (CorpusFile, Path, str)):
            report = await self._transfer.ingest(tenant_id, examples, replace=replace)
            for line in report.skipped:
                logger.warning("%s line %d is skipped: %s", report.path, line.line, line.reason)
            for note in report.notes:
                logger.warning("%s: %s", report.path, note)
        else:
            await self._add_gold(tenant_id, examples, replace)
        await self._champions.refresh_labels(tenant_id)
        return await self._learn(tenant_id, mode=mode, force=True, reason="bootstrap")

    async def _learn(
        self, tenant_id: str, *, mode: RequestedMode, force: bool, reason: str | None
    ) -> LearningCycleResult:
        result = await self._cycle.run_cycle(tenant_id, mode=mode, force=force, reason=reason)
        if self._state != "closed":
            await self._serve(tenant_id)
        return result

    async def _add_gold(
        self, tenant_id: str, examples: Iterable[LabelledText | Mapping[str, Any]], replace: bool
    ) -> None:
        report = await self._curator.add_gold(tenant_id, examples, replace=replace)
        if report.skipped:
            first = report.skipped[0]
            logger.warning(
                "%d examples are skipped, the first at position %d: %s",
                report.skipped_count, first.line, first.reason,
            )  # fmt: skip
        for note in report.notes:
            logger.warning("%s", note)

    async def trigger_learning_cycle(
        self,
        tenant_id: str,
        *,
        force_training: bool = False,
        mode: RequestedMode = "auto",
        reason: str | None = None,
    ) -> LearningCycleResult:
        """Curate, train, validate, and deploy or reject. A bad cycle is a result.

        `force_training` accepts fewer examples than `learning_config.min_data_threshold`. The mode `micro`
        trains the served model alone: its version is provisional until the next cycle. Raises UnknownTenant
        and StoreError; errors carry `backup_path`.
        """
        await self._require(tenant_id)
        if force_training:
            await self._start_worker()
        return await self._learn(tenant_id, mode=mode, force=force_training, reason=reason)

    def use_sampler(self, tenant_id: str, name: str) -> None:
        """Select the examples of a tenant's cycles by this sampler, in place of `learning.sampler`.

        Until the learner is closed. Raises SettingsError for an unknown name.
        """
        self._curator.use_sampler(tenant_id, name)

    async def plan_learning_cycle(
        self, tenant_id: str, *, force_training: bool = False, mode: RequestedMode = "auto"
    ) -> LearningPlan:
        """Preview of `trigger_learning_cycle`. Changes nothing. Raises UnknownTenant."""
        await self._require(tenant_id)
        return await self._planner.plan(tenant_id, requested=mode, force=force_training)

    async def rollback(self, tenant_id: str, version: str | None = None) -> ModelVersion:
        """Make `version`, or the champion's parent, the champion again. Raises UnknownVersion.

        Examples of the undone versions wait until `release` or `discard`.
        """
        await self._require(tenant_id)
        return await self.training_pipeline.rollback(tenant_id, version)

    async def quarantine(self, tenant_id: str, *, reason: str | None = None, limit: int = 100) -> Quarantine:
        """The examples that are not learned until a person decides: quarantined, in conflict, or waiting.

        Those of a reason (`curation.quarantine.REASONS`) or all, newest first, and their numbers by reason.
        Raises UnknownTenant.
        """
        await self._require(tenant_id)
        return await quarantine(self.store, tenant_id, reason=reason, limit=limit)

    async def release(self, tenant_id: str, example_ids: Sequence[str] | None = None) -> int:
        """Make the examples that wait because of a rollback pending; their number. Raises UnknownTenant.

        With ids or unambiguous parts of ids: these, if they wait or were discarded or quarantined for harm.
        Raises InvalidInput for an unknown id.
        """
        return await self._decide(tenant_id, example_ids, release=True)

    async def discard(self, tenant_id: str, example_ids: Sequence[str] | None = None) -> int:
        """Exclude the examples that wait because of a rollback; their number. Raises UnknownTenant.

        With ids or unambiguous parts of ids: these, if they wait, are in conflict, or were quarantined for
        harm. Raises InvalidInput for an unknown id.
        """
        return await self._decide(tenant_id, example_ids, release=False)

    async def _decide(self, tenant_id: str, example_ids: Sequence[str] | None, *, release: bool) -> int:
        await self._require(tenant_id)
        if example_ids is None:
            return await self.store.end_waiting(tenant_id, release=release)
        if isinstance(example_ids, str):
            raise InvalidInput("example_ids is one text: give a list of ids")
        names = [await full_id(self.store, tenant_id, "example", part) for part in example_ids]
        for part, name in zip(example_ids, names, strict=True):
            if name is None:
                raise InvalidInput(f"{tenant_id!r} has no example {part!r}: see `karen-learner quarantine`")
        return await self.store.decide_examples(tenant_id, [name for name in names if name], release=release)

    async def repair(self, tenant_id: str, *, dry_run: bool = False, force: bool = False) -> RepairReport:
        """Verify the champion; restore it from its backup, else train it anew from the stored examples.

        A training of a lost champion uses the examples that it had learned, and no gate. A champion that is
        not lost, but cannot be loaded, is a `problem` of the report; with `force` it is trained anew, too.
        With `dry_run` nothing changes. Raises UnknownTenant.
        """
        await self._require(tenant_id)
        return await self._repair.repair(tenant_id, dry_run=dry_run, force=force)

    # Labels ----------------------------------------------------------------------------------

    async def labels(self, tenant_id: str) -> Sequence[LabelRow]:
        """The labels of each task, with the numbers of their examples. Raises UnknownTenant."""
        await self._require(tenant_id)
        serving = await self._registry.serving(tenant_id)
        known = () if serving is None else await call_in_executor(saved_labels, serving)
        return await self._labels.rows(tenant_id, known)

    async def rename_label(
        self, tenant_id: str, label: str, new_name: str, *, task: Task | None = None, dry_run: bool = False
    ) -> LabelReport:
        """Give a label another name. A dry run changes nothing.

        All examples and feedback with the label get the new name, in one transaction. Later feedback and gold
        with the former name get the new one, and the model that serves answers with it. The next cycle trains
        in full. Raises UnknownTenant, InvalidInput (also if the new name is a label: merge the two), and
        LabelCollision.
        """
        return await self._edit_label(tenant_id, "rename", label, new_name, task=task, dry_run=dry_run)

    async def merge_labels(
        self, tenant_id: str, label: str, into: str, *, task: Task | None = None, dry_run: bool = False
    ) -> LabelReport:
        """Make a label a former name of another one, as `rename_label`. Conflicts between the two end."""
        return await self._edit_label(tenant_id, "merge", label, into, task=task, dry_run=dry_run)

    async def retire_label(
        self, tenant_id: str, label: str, *, task: Task | None = None, dry_run: bool = False
    ) -> LabelReport:
        """Remove a label: it becomes unknown in all texts, as in `rename_label`.

        Examples without another label are quarantined. Gold with the label brings it back.
        """
        return await self._edit_label(tenant_id, "retire", label, None, task=task, dry_run=dry_run)

    async def _edit_label(
        self,
        tenant_id: str,
        edit: Edit,
        label: str,
        successor: str | None,
        *,
        task: Task | None,
        dry_run: bool,
    ) -> LabelReport:
        await self._require(tenant_id)
        report = await self._labels.edit(tenant_id, edit, label, successor, task=task, dry_run=dry_run)
        await self._champions.refresh_labels(tenant_id)
        return report

    async def backup(self, target: Path | str) -> HomeBackup:
        """Write the whole home, database and models together, to a new archive (`.tar.gz`), while it is used.

        `karen_learner.models.home_archives.restore_home` makes a home from it. Raises InvalidInput if the
        target exists or the database is no SQLite file, ModelError, StoreError.
        """
        await self.start()
        archive = Path(target)
        snapshot: Path = await call_in_executor(snapshot_for, archive)
        spools: list[Path] = []
        try:
            # before the database: a turn that is stored in between is in both, and is restored once
            spools = await call_in_executor(copy_spools, self.layout.spool, snapshot)
            await self.store.snapshot(snapshot)
            champions = {name: await self._registry.champion(name) for name in await self.store.tenants()}
            made: HomeBackup = await call_in_executor(
                write_archive, archive, self.layout, snapshot, champions, spools
            )
        finally:
            await call_in_executor(_remove_files, [snapshot, *spools])
        return made

    async def prune(self, tenant_id: str, *, dry_run: bool = False) -> PruneReport:
        """Remove versions, backups and corpora of a tenant beyond retention, as a cycle does at its end.

        Champion and parent stay. With `dry_run` nothing changes. Raises UnknownTenant, StoreLocked.
        """
        await self._require(tenant_id)
        return await self._cycle.prune(tenant_id, dry_run=dry_run)

    # Reports ---------------------------------------------------------------------------------

    async def status(self, tenant_id: str, *, load: bool = False) -> TenantStatus:
        """Champion, counts, labels, running and last cycle, advice, and health. Raises UnknownTenant.

        With `load`, the champion is loaded first, so that `health` shows whether it can be.
        """
        await self._require(tenant_id)
        if load:
            await self._champions.ensure(tenant_id)
        return await self._overview.status(tenant_id)

    async def health(self) -> HomeHealth:
        """Disk use and problems of the home, apart from its tenants (`status`). Raises StoreError."""
        await self.start()
        await self.store.start()
        reason = None if self._reads_only else self.store.read_only
        found: HomeHealth = await call_in_executor(home_health, self.layout, read_only=reason)
        return found

    async def doctor(self, *, fix: bool = False) -> tuple[Finding, ...]:
        """Checks of the home, the database, all versions, the permissions and the libraries.

        With `fix`, permissions, missing backups and damaged versions with a backup are mended. Nothing is
        trained. Raises StoreError if the store does not open.
        """
        await self.start()
        reason = None if self._reads_only else self.store.read_only
        return await self._doctor.examine(fix=fix and self.store.read_only is None, read_only=reason)

    async def report(
        self,
        tenant_id: str,
        *,
        period: ReportPeriod = "weekly",
        kind: ReportKind | None = None,
        formats: Sequence[ReportFormat] | None = None,
        at: datetime | None = None,
        fresh: bool = False,
    ) -> StoredReport:
        """Store a report of the last period before `at`, below `reports/` in the home (`Reporter.make`).

        Raises UnknownTenant, InvalidInput, StoreFull.
        """
        from karen_learner.reports.making import Reporter

        await self._require(tenant_id)
        reporter = Reporter(self, self.reports, clock=self._clock)
        return await reporter.make(tenant_id, period=period, kind=kind, formats=formats, at=at, fresh=fresh)

    async def get_learning_metrics(self, tenant_id: str | None = None) -> LearningMetrics:
        """Counts over cycles of one tenant; without a tenant over all, without content."""
        await (self.start() if tenant_id is None else self._require(tenant_id))
        return await self._overview.metrics(tenant_id)

    async def history(self, tenant_id: str, *, limit: int = 20) -> tuple[LearningCycleResult, ...]:
        """The newest cycles and rollbacks, newest first. Raises UnknownTenant."""
        check_limit(limit)
        await self._require(tenant_id)
        rows = await self.store.cycles(tenant_id, limit=limit)
        return tuple(self.layout.placed_result(row.result) for row in rows if row.result is not None)

    async def cycle(self, tenant_id: str, cycle_id: str | None = None) -> LearningCycleResult:
        """The result of a cycle or rollback; without an id, of the newest one that was not skipped.

        Raises UnknownTenant, UnknownCycle.
        """
        await self._require(tenant_id)
        return self.layout.placed_result(await self._overview.cycle(tenant_id, cycle_id))

    async def journal(self, tenant_id: str, *, limit: int = 20, since: int = 0) -> Sequence[CycleRow]:
        """Cycles and rollbacks after the `seq` of `since`, oldest first. Raises UnknownTenant.

        To continue, pass the `seq` of the last row.
        """
        check_limit(limit)
        check_limit(since, "since")
        await self._require(tenant_id)
        return await self.store.cycles(tenant_id, limit=limit, since=since)

    async def example_texts(self, tenant_id: str, example_ids: Sequence[str]) -> Mapping[str, str]:
        """Texts of examples (`Confusion.example_ids`) by id, without removed ones. Raises UnknownTenant."""
        check_several(example_ids, "example_ids")
        await self._require(tenant_id)
        return await self.store.example_texts(tenant_id, example_ids)

    async def version(self, tenant_id: str, name: str) -> ModelVersion | None:
        """A version by its name or an unambiguous part of it (`v0007`); None for an unknown one.

        Raises UnknownTenant, and InvalidInput for an ambiguous part.
        """
        await self._require(tenant_id)
        return await self._registry.named(tenant_id, name)

    async def versions(
        self, tenant_id: str, *, limit: int = 100, since: str | None = None
    ) -> Sequence[ModelVersion]:
        """Versions, newest first; with `since`, those after that version in order. Raises UnknownTenant."""
        check_limit(limit)
        await self._require(tenant_id)
        return await self._registry.versions(tenant_id, limit=limit, since=since)

    async def note_version(self, tenant_id: str, version: str, note: str | None) -> ModelVersion:
        """Write a note about a version; None removes it.

        Raises UnknownTenant, UnknownVersion, and InvalidInput for a note that is blank or longer than 1,000
        characters.
        """
        await self._require(tenant_id)
        if note is not None and not (isinstance(note, str) and note.strip() and len(note) <= MAX_NOTE_CHARS):
            raise InvalidInput(f"a note is a text of 1 to {MAX_NOTE_CHARS:,} characters")
        note = note and replace_unfit(note)
        found = await self._registry.require(tenant_id, version)
        await self.store.note_version(tenant_id, found.version, note)
        return found.model_copy(update={"note": note})

    async def package(
        self, tenant_id: str, folder: Path | str = ".", *, version: str | None = None, name: str | None = None
    ) -> ModelPackage:
        """Write a version, by default the one that serves, as a wheel for pip and `spacy.load`.

        The package is named after the language and `name` (default: the tenant). Raises UnknownTenant,
        UnknownVersion, ModelError, and InvalidInput for an unfit name or folder.
        """
        await self._require(tenant_id)
        found = await self._registry.require(tenant_id, version)
        package: ModelPackage = await call_in_executor(partial(write_package, found, Path(folder), name=name))
        return package

    async def evaluate(
        self,
        tenant_id: str,
        source: LabelledSource,
        *,
        version: str | None = None,
        on_texts: OnTexts | None = None,
    ) -> Evaluation:
        """Scores of a version, by default of the champion, on labelled texts (records, dicts, or a file).

        Stores nothing. `on_texts` receives the numbers of analysed and of all texts. Raises UnknownTenant,
        UnknownVersion, ModelError, ImportFormatError, and InvalidInput if the version knows no label of the
        texts.
        """
        await self._require(tenant_id)
        return await self._evaluator.evaluate(tenant_id, source, version=version, on_texts=on_texts)

    async def compare(
        self,
        tenant_id: str,
        before: str,
        after: str,
        source: LabelledSource | None = None,
        *,
        on_texts: OnTexts | None = None,
    ) -> VersionComparison:
        """Two versions on the same labelled texts: paired differences, and texts with other answers.

        Without a source on judged gold: the out-of-fold predictions that both versions recorded. Stores
        nothing. Raises the errors of `evaluate`, and InvalidInput if the versions recorded no common text.
        """
        await self._require(tenant_id)
        return await self._evaluator.compare(tenant_id, before, after, source, on_texts=on_texts)

    async def tenants(self) -> Sequence[str]:
        """All tenants of this store."""
        await self.start()
        return await self.store.tenants()

    # Files -----------------------------------------------------------------------------------

    async def ingest(
        self,
        tenant_id: str,
        source: CorpusSource | AsyncIterator[ImportedLine],
        *,
        replace: bool = False,
        on_lines: OnLines | None = None,
    ) -> IngestReport:
        """Import turns or gold examples from a file (a path or a `CorpusFile`) or a stream.

        Gold examples wait for the next cycle. One that contradicts an earlier line is skipped, and one that
        contradicts stored gold, unless it is to `replace` it. Raises ImportFormatError, LabelCollision.
        """
        if not isinstance(source, (CorpusFile, Path, str, AsyncIterable)):
            raise InvalidInput(
                f"the source is a path or an async iterator of lines, not {type(source).__name__}; "
                "bootstrap takes examples"
            )
        await self._serve(tenant_id)
        report = await self._transfer.ingest(tenant_id, source, replace=replace, on_lines=on_lines)
        await self._champions.refresh_labels(tenant_id)
        return report

    async def check_data(
        self,
        tenant_id: str,
        source: CorpusSource,
        *,
        test: CorpusSource | None = None,
        rare_below: int = RARE_BELOW,
    ) -> DataReport:
        """Problems of a file of labelled texts, alone, beside stored gold, and beside a test file.

        Stores nothing. A label with fewer than `rare_below` texts is rare. Raises UnknownTenant, the errors
        of `ingest`, and InvalidInput for a file without a usable text.
        """
        await self._require(tenant_id)
        file = await call_in_executor(read_labelled_file, source)
        tested = None
        if test is not None:
            tested = await call_in_executor(partial(read_labelled_file, is_test=True), test)
        return await self._curator.check_data(tenant_id, file, tested, rare_below=rare_below)

    async def export(
        self,
        tenant_id: str,
        path: Path | str,
        *,
        kind: ExportKind = "examples",
        to: str | None = None,
        user_id: str | None = None,
    ) -> int:
        """Write curated examples, or turns (all, or those of a user) as JSON lines. Returns their number.

        `to` is the name of a format; by default the suffix decides. Raises InvalidInput, also if there is
        nothing to export.
        """
        await self._require(tenant_id)
        return await self._transfer.export(tenant_id, Path(path), kind=kind, to=to, user_id=user_id)


create_autonomous_learner = AutonomousLearner
"""The constructor of a learner."""


def _remove_files(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
