"""Memory of the worker between jobs: the pipeline that serves, outputs of models, documents of a corpus.

A cycle continues from the champion, which the previous cycle may have left in memory. Shadows are read from
disk. A shadow of the champion may answer for the same texts as before, when it was a candidate. The models of
a cycle share tokenizer, vocabulary and documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cachetools import FIFOCache
from spacy.language import Language
from spacy.tokens import Doc
from spacy.vocab import Vocab

from karen_learner.components.online.shim import prepare_to_learn
from karen_learner.corpora.docbin import CorpusDoc, corpus_docs, docs_of_shadow
from karen_learner.records.training import PipelineSpec
from karen_learner.training.pipelines import SharedWords, TrainablePipeline

Identity = tuple[int, int, int]
OutputT = TypeVar("OutputT")
MAX_OUTPUTS = 12
"""Outputs of two models with five shadows each."""
MAX_STRINGS = 100_000


def identity_of(folder: Path) -> Identity | None:
    """Device, inode and modification time of a saved pipeline: unique, and unchanged by a move of the folder.

    None if the folder holds no pipeline.
    """
    return _identity_of_file(folder / "meta.json")


def _identity_of_file(file: Path) -> Identity | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _few_strings(pipeline: TrainablePipeline) -> bool:
    """Whether the vocabulary of a pipeline has few strings of training texts."""
    return len(pipeline.nlp.vocab.strings) - len(pipeline.kept_strings) <= MAX_STRINGS


class _Corpus(NamedTuple):
    """The documents of a file, and the reasons of unusable lines."""

    vocab: Vocab
    identity: Identity | None
    docs: list[CorpusDoc]
    skipped: list[str]


class WorkerCache:
    """The serving pipeline, one pipeline of a shadow, the latest outputs, and the common parts of a cycle's
    models. Not thread-safe."""

    def __init__(self) -> None:
        self._pipelines: dict[bool, tuple[Identity, TrainablePipeline]] = {}
        self._outputs: FIFOCache[str, Any] = FIFOCache(MAX_OUTPUTS)
        self._released: TrainablePipeline | None = None
        self._words: SharedWords | None = None
        self._docs: dict[Path, _Corpus] = {}
        self._lines: tuple[Path, Identity | None, Any] | None = None

    def take(self, spec: PipelineSpec) -> TrainablePipeline:
        """Remove and return the pipeline of `spec`, or load it. Raises ModelError."""
        for slot, (_, pipeline) in list(self._pipelines.items()):
            if self._is(spec, slot):
                del self._pipelines[slot]
                return pipeline
        released, self._released = self._released, None
        if spec.path is not None:
            return self._load(spec, Path(spec.path))
        usable = released is not None and released.nlp.lang == spec.language
        return TrainablePipeline.open(spec, former=released if usable else None)

    def _load(self, spec: PipelineSpec, folder: Path) -> TrainablePipeline:
        """Load a saved pipeline. It shares the words of the last one if it can."""
        pipeline = TrainablePipeline.open(spec, words=self._words)
        if self._words is None or self._words.vocab is not pipeline.nlp.vocab:
            self._words = pipeline.shared_words(folder)
        if not _few_strings(pipeline):
            self._words = None
        return pipeline

    def release(self, pipeline: TrainablePipeline) -> None:
        """Let the next new pipeline take the tokenizer and the vocabulary of a saved one."""
        if pipeline.from_template and _few_strings(pipeline):
            pipeline.remove_pipes()
            self._released = pipeline

    def docs(self, nlp: Language, path: Path, *, skipped: list[str], shadow: int | None) -> dict[int, Doc]:
        """The gold documents of a corpus by line, without those that are held out of the shadow.

        Shadows with the same vocabulary, and the model that serves, read the file once. It comes last.
        """
        identity = _identity_of_file(path)
        known = self._docs.pop(path, None)
        if known is None or (known.vocab, known.identity) != (nlp.vocab, identity):
            reasons: list[str] = []
            known = _Corpus(nlp.vocab, identity, corpus_docs(nlp, path, skipped=reasons), reasons)
        self._docs = {kept: one for kept, one in self._docs.items() if kept.parent == path.parent}
        if shadow is not None:
            self._docs[path] = known
        skipped += known.skipped
        return docs_of_shadow(known.docs, shadow)

    def saved(self, spec: PipelineSpec) -> TrainablePipeline:
        """A saved pipeline for predictions: that in memory, or the one on disk. Raises ModelError."""
        for slot, (_, pipeline) in self._pipelines.items():
            if self._is(spec, slot):
                return pipeline
        return TrainablePipeline.open(spec) if spec.path is None else self._load(spec, Path(spec.path))

    def _is(self, spec: PipelineSpec, slot: bool) -> bool:
        if slot not in self._pipelines or spec.path is None:
            return False
        identity, pipeline = self._pipelines[slot]
        return identity == identity_of(Path(spec.path)) and dict(spec.tasks) == pipeline.tasks

    def keep(self, pipeline: TrainablePipeline, folder: Path, *, is_shadow: bool = False) -> None:
        """Replace the pipeline in memory by one that is saved in the folder.

        A pipeline with too many strings of training texts is dropped. Optimizer states are loaded now: those
        of untrained pipes are in the folder of an older version, which may be removed.
        """
        for task in pipeline.trainable_tasks:
            prepare_to_learn(pipeline.pipe(task).model)
        identity = identity_of(folder)
        self._pipelines.pop(is_shadow, None)
        self._words = None
        if identity is not None and _few_strings(pipeline):
            self._pipelines[is_shadow] = identity, pipeline
            self._words = pipeline.shared_words(folder)

    def lines(self, path: Path, read: Callable[[], OutputT]) -> OutputT:
        """The lines of a file as `read` returns them. The last file is read once."""
        identity = _identity_of_file(path)
        if self._lines is None or self._lines[:2] != (path, identity):
            self._lines = path, identity, read()
        found: OutputT = self._lines[2]
        return found

    def outputs(self, spec: PipelineSpec, texts: Sequence[str], run: Callable[[], OutputT]) -> OutputT:
        """The output of a saved pipeline for these texts, if cached, or of `run`."""
        identity = None if spec.path is None else identity_of(Path(spec.path))
        if identity is None:
            return run()
        key = hashlib.sha256(
            repr((identity, sorted(spec.tasks.items()), texts)).encode("utf-8", "backslashreplace")
        ).hexdigest()
        if key not in self._outputs:
            self._outputs[key] = run()
        found: OutputT = self._outputs[key]
        return found
