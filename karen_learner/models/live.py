"""Live models: loaded pipelines, each with its own inference thread.

Two threads must not use a `Language` in a memory zone at the same time. So all its uses run on the thread of
its `LiveModel`. A replaced model answers the requests that hold it. Its thread and memory are released with
the last reference.
"""

from __future__ import annotations

import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypeVar

import spacy
from asyncio_extras import call_in_executor
from spacy.language import Language

from karen_learner.components.documents import small_zone
from karen_learner.concurrency import renew_in_forked_children, short_switch_interval
from karen_learner.errors import LearnerClosed, ModelError, PipelineUnsuitable, WrongEventLoop
from karen_learner.models.files import folder_bytes
from karen_learner.models.loading import load_pipeline, tokenize_common_words
from karen_learner.records import Holdback, Task
from karen_learner.records.labels import Successors

T = TypeVar("T")

WARM_UP_TEXT = "Hello, how are you today?"


class LiveModel:
    """A loaded pipeline with its own thread.

    `tasks` names the pipe of each task. Deployment sets the `version` of a candidate. `size_bytes` is the
    size of the model's files, an estimate of its memory. `successors` are the present labels of former ones
    that the model knows. Raises PipelineUnsuitable if a pipe is missing.
    """

    def __init__(
        self,
        nlp: Language,
        *,
        tasks: Mapping[Task, str],
        version: str | None = None,
        size_bytes: int = 0,
    ) -> None:
        _require_pipes(nlp, tasks)
        self._nlp = nlp
        self.tasks: Mapping[Task, str] = MappingProxyType(dict(tasks))
        self.version = version
        self.size_bytes = size_bytes
        self._labels = {
            task: tuple(getattr(nlp.get_pipe(pipe), "labels", ())) for task, pipe in tasks.items()
        }
        self.successors: Successors = {}
        self._executor = self._new_executor()
        self._closed = False
        self._busy = False
        self._forked_while_busy = False
        renew_in_forked_children(self)

    def _new_executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"karen-{self.version or 'model'}")

    def renew_after_fork(self) -> None:
        """A new thread for the child. A model inside a memory zone cannot leave it: the child refuses it."""
        self._executor = self._new_executor()
        self._forked_while_busy = self._busy

    @classmethod
    def load(
        cls,
        path_or_package: str | Path,
        *,
        tasks: Mapping[Task, str],
        version: str | None,
        blank: Language | None = None,
    ) -> Self:
        """Load from a folder or an installed package, and warm up. Blocks: call it in a thread.

        It takes over the tokenizer of a `warm_blank` pipeline if that fits, which saves most of the time.
        Raises ModelError if the model cannot be loaded or cannot process a text, PipelineUnsuitable if a pipe
        of `tasks` is missing.
        """
        with short_switch_interval():
            nlp, folder = load_pipeline(path_or_package, blank=blank), Path(path_or_package)
            size = folder_bytes(folder) if folder.is_dir() else 0
            model = cls(nlp, tasks=tasks, version=version, size_bytes=size)
            try:
                model.warm_up(tokenizer=blank is None or nlp.tokenizer is not blank.tokenizer)
            except Exception as error:
                model.close()
                raise ModelError(
                    f"the model {path_or_package} loads, but cannot process a text: {error}"
                ) from error
        return model

    @classmethod
    def blank(cls, language: str) -> Self:
        """A tokenizer of the language without pipes, for linguistic features."""
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

    def labels(self, task: Task) -> tuple[str, ...]:
        """The labels of the pipe of the task, in its order; none without a pipe."""
        return self._labels.get(task, ())

    def warm_up(self, *, tokenizer: bool = True) -> None:
        """Process one text, so that lazy initialization does not delay the first request. Blocks.

        With `tokenizer`, also tokenize common words (`tokenize_common_words`).
        """
        if tokenizer:
            self._executor.submit(tokenize_common_words, self._nlp).result()
        self._executor.submit(self._in_zone, lambda nlp: len(nlp(WARM_UP_TEXT))).result()

    async def run(self, function: Callable[[Language], T]) -> T:
        """The result of `function(nlp)` on the inference thread, in a memory zone.

        It must be plain values: docs, tokens and spans are invalid after the zone. Raises LearnerClosed after
        `close()`, WrongEventLoop after a fork during a call, and the errors of `function`.
        """
        if self._closed:
            raise LearnerClosed(f"the model {self.version or 'without a version'} was closed")
        if self._forked_while_busy:
            raise WrongEventLoop(
                f"the model {self.version or 'without a version'} was analysing texts while this process was "
                "forked: load it again, or fork before its first use"
            )
        result: T = await call_in_executor(self._in_zone, function, executor=self._executor)
        return result

    def _in_zone(self, function: Callable[[Language], T]) -> T:
        self._busy = True
        try:
            with small_zone(self._nlp):
                try:
                    return function(self._nlp)
                except Exception as caught:
                    forget_frames(caught)
                    error = caught
        finally:
            self._busy = False
        try:
            raise error
        finally:
            del error  # a reference cycle of error and frame would keep the model in memory

    def close(self) -> None:
        """Refuse new calls, finish queued ones, then end the thread. Idempotent, does not block."""
        self._closed = True
        self._executor.shutdown(wait=False)


OnUnload = Callable[[str, LiveModel, str], None]


class LiveModels:
    """The live model of each tenant: at most `limit` models, of together at most `max_bytes`.

    While a holdback runs, a tenant has a second model for a share of its users. It stays as long as the first
    one.

    Beyond a limit, the least recently used model is unloaded. Then each function in `on_unload` is called
    with the tenant, the model and the name of the exceeded setting. The newest model always stays. Unloaded
    and replaced models are not closed, because requests may hold them. Thread-safe.
    """

    def __init__(self, limit: int, *, max_bytes: int | None = None) -> None:
        if limit < 1:
            raise ValueError(f"at least one live model is needed, not {limit}")
        self._limit = limit
        self._max_bytes = max_bytes
        self.on_unload: list[OnUnload] = []
        self._models: OrderedDict[str, LiveModel] = OrderedDict()
        self._held: dict[str, tuple[Holdback, LiveModel]] = {}
        self._lock = threading.Lock()
        self._closed = False
        renew_in_forked_children(self)

    def renew_after_fork(self) -> None:
        """A lock that no thread holds."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._models)

    def get(self, tenant_id: str, user_id: str | None = None) -> LiveModel | None:
        """The tenant's live model, or that of the holdback if it keeps the user; None without one."""
        with self._lock:
            self._require_open()
            model = self._models.get(tenant_id)
            if model is not None:
                self._models.move_to_end(tenant_id)
                if user_id is not None and (held := self._held.get(tenant_id)) is not None:
                    return held[1] if held[0].keeps(tenant_id, user_id) else model
            return model

    def held(self, tenant_id: str) -> tuple[Holdback, LiveModel] | None:
        """The holdback of the tenant that is in use, and its model."""
        with self._lock:
            return self._held.get(tenant_id)

    def hold(self, tenant_id: str, holdback: Holdback, model: LiveModel) -> None:
        """Answer the users of a holdback with this model, if the tenant has a live model."""
        with self._lock:
            self._require_open()
            if tenant_id in self._models:
                self._held[tenant_id] = (holdback, model)

    def end_hold(self, tenant_id: str) -> None:
        """Answer all users with the tenant's live model."""
        with self._lock:
            self._held.pop(tenant_id, None)

    def peek(self, tenant_id: str) -> LiveModel | None:
        """The tenant's live model; does not mark it as used."""
        with self._lock:
            return self._models.get(tenant_id)

    def tenants(self) -> list[str]:
        """The tenants with a live model."""
        with self._lock:
            return list(self._models)

    def install(self, tenant_id: str, model: LiveModel) -> LiveModel | None:
        """Make the model the tenant's live model, and return the replaced one."""
        with self._lock:
            self._require_open()
            previous = self._models.get(tenant_id)
            self._models[tenant_id] = model
            self._models.move_to_end(tenant_id)
            unloaded = list(self._unload_excess())
        for tenant, old, setting in unloaded:
            for call in tuple(self.on_unload):
                call(tenant, old, setting)
        return previous

    def _unload_excess(self) -> Iterator[tuple[str, LiveModel, str]]:
        while len(self._models) > 1 and (setting := self._exceeded()) is not None:
            tenant_id, model = self._models.popitem(last=False)
            self._held.pop(tenant_id, None)
            yield tenant_id, model, setting

    def _exceeded(self) -> str | None:
        if len(self._models) > self._limit:
            return "analysis.live_models"
        held = (model for _, model in self._held.values())
        total = sum(model.size_bytes for model in (*self._models.values(), *held))
        return (
            "analysis.live_models_bytes" if self._max_bytes is not None and total > self._max_bytes else None
        )

    def close(self) -> None:
        """Close every model; queued calls finish. Idempotent."""
        with self._lock:
            self._closed = True
            models = [*self._models.values(), *(model for _, model in self._held.values())]
            self._models.clear()
            self._held.clear()
        for model in models:
            model.close()

    def _require_open(self) -> None:
        if self._closed:
            raise LearnerClosed("the live models were closed")


def _require_pipes(nlp: Language, tasks: Mapping[Task, str]) -> None:
    for task, pipe in tasks.items():
        if pipe not in nlp.pipe_names:
            found = ", ".join(nlp.pipe_names) or "none"
            raise PipelineUnsuitable(
                f"the task {task!r} needs the pipe {pipe!r}, but the pipeline has: {found}"
            )


def forget_frames(error: BaseException | None) -> None:
    """Clear the local variables of an error's frames: their docs are invalid after the memory zone."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
