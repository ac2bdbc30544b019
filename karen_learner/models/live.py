"""The live slot: loaded pipelines, each with an inference thread of its own.

A `Language` in a memory zone must not be used by two threads at once, so everything that touches one
runs on the single thread of its `LiveModel`. A model that leaves the registry is not shut down under
those who still hold it: it answers them, and its thread and memory go when the last of them lets go.
"""

from __future__ import annotations

import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypeVar

import spacy
from asyncio_extras import call_in_executor
from spacy.language import Language

from karen_learner.errors import LearnerClosed, ModelError, PipelineUnsuitable
from karen_learner.models.switch_interval import short_switch_interval
from karen_learner.records import Task

T = TypeVar("T")

WARM_UP_TEXT = "Hello, how are you today?"


class LiveModel:
    """A loaded pipeline that serves, on its own thread.

    `tasks` names the pipe of each task. A candidate gets its `version` when it is deployed.
    Raises PipelineUnsuitable if the pipeline lacks one of the pipes.
    """

    def __init__(self, nlp: Language, *, tasks: Mapping[Task, str], version: str | None = None) -> None:
        _require_pipes(nlp, tasks)
        self._nlp = nlp
        self.tasks: Mapping[Task, str] = MappingProxyType(dict(tasks))
        self.version = version
        self._labels = {
            task: tuple(getattr(nlp.get_pipe(pipe), "labels", ())) for task, pipe in tasks.items()
        }
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"karen-{version or 'model'}")
        self._closed = False

    @classmethod
    def load(
        cls,
        path_or_package: str | Path,
        *,
        tasks: Mapping[Task, str],
        version: str | None,
        familiar_words: Callable[[str], Sequence[str]] | None = None,
    ) -> Self:
        """Load from a folder or an installed package, and warm up. Blocks: call it in a thread.

        `familiar_words` gives the words of a language that are worth keeping in the vocabulary (see
        `warm_up`). Raises ModelError if the model cannot be loaded or cannot read a text,
        PipelineUnsuitable if a pipe of `tasks` is missing.
        """
        with short_switch_interval():
            model = cls(load_pipeline(path_or_package), tasks=tasks, version=version)
            try:
                model.warm_up(familiar_words(model.language) if familiar_words else ())
            except Exception as error:
                model.close()
                raise ModelError(
                    f"the model {path_or_package} loads but cannot read a text: {error}"
                ) from error
        return model

    @classmethod
    def blank(cls, language: str) -> Self:
        """A tokenizer of the language alone: no task, but linguistic features."""
        try:
            return cls(spacy.blank(language), tasks={})
        except (ImportError, ValueError) as error:
            raise ModelError(
                f"spaCy has no usable tokenizer for the language {language!r}: {error}"
            ) from error

    @property
    def language(self) -> str:
        """spaCy's code of the pipeline's language."""
        return str(self._nlp.lang)

    @property
    def closed(self) -> bool:
        return self._closed

    def labels(self, task: Task) -> frozenset[str]:
        """The labels that the pipe of the task knows; none if the task is not mapped."""
        return frozenset(self.ordered_labels(task))

    def ordered_labels(self, task: Task) -> tuple[str, ...]:
        """The same labels in the order of the pipe."""
        return self._labels.get(task, ())

    def warm_up(self, familiar_words: Sequence[str] = ()) -> None:
        """Read one text, so that the first request does not pay for what is set up on first use. Blocks.

        What a memory zone has seen of a word is forgotten with it, and seeing it anew costs time: with
        real chat that made serving a fifth slower than `nlp.pipe`. Words made familiar here stay.
        """
        self._executor.submit(_tokenize_each, self._nlp, familiar_words).result()
        self._executor.submit(self._in_zone, _read_one).result()

    async def run(self, function: Callable[[Language], T]) -> T:
        """Call `function` with the pipeline on the inference thread, in a memory zone.

        Only plain values may come out: docs, tokens and spans end with the zone. What `function`
        raises is raised here. Raises LearnerClosed after `close()`.
        """
        if self._closed:
            raise LearnerClosed(f"the model {self.version or 'without a version'} was closed")
        result: T = await call_in_executor(self._in_zone, function, executor=self._executor)
        return result

    def _in_zone(self, function: Callable[[Language], T]) -> T:
        with self._nlp.memory_zone():
            try:
                return function(self._nlp)
            except Exception as caught:
                forget_frames(caught)
                error = caught
        try:
            raise error
        finally:
            del error  # else the error and this frame would keep each other, and the model, alive

    def close(self) -> None:
        """Take nothing new, finish what is queued, then end the thread. Idempotent, does not block."""
        self._closed = True
        self._executor.shutdown(wait=False)


class LiveModels:
    """The live model of each tenant, at most `limit` of them: the least recently used one gives way.

    Safe to call from any thread. A model that is replaced or evicted is retired, not closed:
    a request that holds it is still answered.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"at least one live model is needed, not {limit}")
        self._limit = limit
        self._models: OrderedDict[str, LiveModel] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    def __len__(self) -> int:
        return len(self._models)

    def get(self, tenant_id: str) -> LiveModel | None:
        """The tenant's live model, or None if it has none in memory."""
        with self._lock:
            self._require_open()
            model = self._models.get(tenant_id)
            if model is not None:
                self._models.move_to_end(tenant_id)
            return model

    def peek(self, tenant_id: str) -> LiveModel | None:
        """The same for one who only looks: it does not count as a use."""
        with self._lock:
            return self._models.get(tenant_id)

    def tenants(self) -> list[str]:
        """The tenants with a live model."""
        with self._lock:
            return list(self._models)

    def install(self, tenant_id: str, model: LiveModel) -> LiveModel | None:
        """Put the model in the tenant's slot at once, and return the one that was there."""
        with self._lock:
            self._require_open()
            previous = self._models.get(tenant_id)
            self._models[tenant_id] = model
            self._models.move_to_end(tenant_id)
            if len(self._models) > self._limit:
                self._models.popitem(last=False)
            return previous

    def close(self) -> None:
        """Close every model: what is queued in them finishes. Idempotent."""
        with self._lock:
            self._closed = True
            models = list(self._models.values())
            self._models.clear()
        for model in models:
            model.close()

    def _require_open(self) -> None:
        if self._closed:
            raise LearnerClosed("the live models were closed")


def load_pipeline(path_or_package: str | Path) -> Language:
    """`spacy.load`, with every way in which it can fail told as a ModelError. Blocks."""
    try:
        return spacy.load(path_or_package)
    except Exception as error:
        raise ModelError(
            f"cannot load a spaCy pipeline from {str(path_or_package)!r}: {error} "
            "Name a folder written by nlp.to_disk, or an installed package."
        ) from error


def _require_pipes(nlp: Language, tasks: Mapping[Task, str]) -> None:
    for task, pipe in tasks.items():
        if pipe not in nlp.pipe_names:
            there = ", ".join(nlp.pipe_names) or "none"
            raise PipelineUnsuitable(
                f"the task {task!r} needs the pipe {pipe!r}, but the pipeline has these: {there}"
            )


def _tokenize_each(nlp: Language, words: Sequence[str]) -> None:
    # One by one: within one text, the tokenizer caches nothing that follows one of its special cases.
    for word in words:
        nlp.tokenizer(word)


def _read_one(nlp: Language) -> None:
    nlp(WARM_UP_TEXT)


def forget_frames(error: BaseException | None) -> None:
    """Drop the local variables of where an error came from: docs in them end with the memory zone."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
