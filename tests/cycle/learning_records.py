"""A training backend that records the texts that each model learns, and checks the texts that it judges."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from karen_learner.contracts import MemoryStore, OnProgress
from karen_learner.corpora.docbin import read_examples
from karen_learner.corpora.parsing import CorpusLine
from karen_learner.models.versions import MANIFEST
from karen_learner.records.training import (
    PipelineSpec,
    PredictJob,
    PredictReport,
    TrainJob,
    TrainReport,
)
from karen_learner.text_identity import group_key, text_key
from karen_learner.training import LocalWorker


@dataclass(frozen=True)
class Learned:
    """Keys of texts, groups of near-duplicates and people in the training of a model and its ancestors.

    The people are those of texts that nobody else labels alike.
    """

    keys: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    people: frozenset[str] = frozenset()

    def __or__(self, other: Learned) -> Learned:
        return Learned(self.keys | other.keys, self.groups | other.groups, self.people | other.people)


@dataclass
class RecordingWorker:
    """A real worker. A model is known by the content of its folder, which a deployment moves."""

    worker: LocalWorker
    store: MemoryStore | None = None
    leaks: list[str] = field(default_factory=list)
    judged: Counter[str] = field(default_factory=Counter)
    trained: Counter[str] = field(default_factory=Counter)
    known: dict[str, Learned] = field(default_factory=dict)

    @property
    def pid(self) -> int | None:
        return self.worker.pid

    async def start(self) -> None:
        await self.worker.start()

    async def close(self) -> None:
        await self.worker.close()

    def preload(self, tenant_id: str, pipeline: PipelineSpec) -> None:
        self.worker.preload(tenant_id, pipeline)

    async def train(self, job: TrainJob, on_progress: OnProgress | None = None) -> TrainReport:
        new, pool = lines_of(job.corpus / "train.jsonl"), lines_of(job.corpus / "replay.jsonl")
        inherited = self._of(job.pipeline)
        report = await self.worker.train(job, on_progress)
        lines = [*new, *(pool[number] for number in report.replayed)]
        if job.shadow is not None:
            assert all(not pool[number].held_out >> job.shadow & 1 for number in report.replayed)
            lines = [line for line in lines if not line.held_out >> job.shadow & 1]
        self.known[content_of(job.output)] = inherited | await self._learned(job.tenant_id, lines)
        self.trained[f"{job.mode}, {'served' if job.shadow is None else 'shadow'}"] += len(lines)
        return report

    async def predict(self, job: PredictJob) -> PredictReport:
        lines = [line for line in lines_of(job.texts) if line.tasks]  # recent turns have no labels
        people = await self._people(job.tenant_id, lines)
        single = len(job.models) == 1
        side = "candidate" if job.calibration is not None else "champion"
        for number, line in enumerate(lines):
            model = self._of(job.models[0 if single else line.shadow])
            kind = "gold" if number < job.gold else "feedback"
            self.judged[f"{side}, {kind}"] += 1
            self._check(side, line, people.get(text_key(line.text), ()), model)
        return await self.worker.predict(job)

    def _check(self, side: str, line: CorpusLine, people: Iterable[str], model: Learned) -> None:
        where = f"shadow {line.shadow} of the {side} judges {line.text!r} and has learned"
        if text_key(line.text) in model.keys:
            self.leaks.append(f"{where} the text")
        if group_key(line.text) in model.groups:
            self.leaks.append(f"{where} a near-duplicate")
        self.leaks += [f"{where} from {person}" for person in people if person in model.people]

    def _of(self, spec: PipelineSpec) -> Learned:
        """The record of a model. The base pipeline has learned nothing."""
        return Learned() if spec.path is None else self.known[content_of(Path(spec.path))]

    async def _people(self, tenant_id: str, lines: Iterable[CorpusLine]) -> dict[str, tuple[str, ...]]:
        """The people of each text, by key; none for a text that several people label alike."""
        assert self.store is not None
        found = await self.store.contributions(tenant_id, [text_key(line.text) for line in lines])
        people: dict[str, tuple[str, ...]] = {}
        for key, rows in found.items():
            labels = {row.person: row.intent for row in rows if row.person is not None}
            is_gold = any(row.is_gold for row in rows)
            if is_gold or len(labels) < 2 or len(set(labels.values())) > 1:
                people[key] = tuple(labels)
        return people

    async def _learned(self, tenant_id: str, lines: list[CorpusLine]) -> Learned:
        people = await self._people(tenant_id, lines)
        return Learned(
            keys=frozenset(text_key(line.text) for line in lines),
            groups=frozenset(group_key(line.text) for line in lines),
            people=frozenset(person for several in people.values() for person in several),
        )


def lines_of(path: Path) -> list[CorpusLine]:
    if not path.is_file():
        return []
    lines = [line.value for line in read_examples(path)]
    assert None not in lines
    return [line for line in lines if line is not None]


def content_of(folder: Path) -> str:
    """Digest of the files of a pipeline, without the manifest of a version."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            digest.update(str(path.relative_to(folder)).encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
