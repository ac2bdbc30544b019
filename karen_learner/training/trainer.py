"""The training loop: one pipe at a time, a pass at a time, as a generator.

Reading, progress and saving are elsewhere; this decides what is updated, when to stop and which
weights are kept. The gradient steps go through `nlp.update` with every other pipe excluded, so an
example moves only the pipes it has labels for.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Adam, Model, Optimizer

from karen_learner.components.online.trainable import online_trainables, prepare_to_learn, scale_learn_rate
from karen_learner.errors import TrainingDiverged
from karen_learner.metrics import Span, span_f1
from karen_learner.records import CycleMode, Task
from karen_learner.records.training import PassReport
from karen_learner.settings import TrainingSettings

logger = logging.getLogger(__name__)

LAST_RATE = 0.05
"""Where the learn rate ends, as a share of where it begins."""
EXPLODED = 1000.0
"""A loss this many times that of the first pass is no learning any more."""


@dataclass(frozen=True)
class Plan:
    """How long a pipe is trained, and how fast it begins, as a share of its learn rate."""

    passes: int
    min_updates: int
    rate: float


def plan_of(settings: TrainingSettings, *, mode: CycleMode, continues: bool) -> Plan:
    """`continues`: the pipe was trained before, and goes on from there."""
    if continues:
        return Plan(settings.continuing_n_iter, 0, settings.continuing_rate)
    return Plan(settings.n_iter, settings.min_updates if mode == "full" else 0, 1.0)


class PipeTrainer:
    """Trains one pipe of a pipeline in place, and leaves it with the best weights where it can choose."""

    def __init__(
        self,
        nlp: Language,
        task: Task,
        pipe_name: str,
        *,
        settings: TrainingSettings,
        plan: Plan,
        rng: random.Random,
    ) -> None:
        self._nlp = nlp
        self._task = task
        self._pipe: Any = nlp.get_pipe(pipe_name)
        self._others = [name for name in nlp.pipe_names if name != pipe_name]
        self._settings = settings
        self._plan = plan
        self._rng = rng
        self._learn_rate = settings.learn_rate * plan.rate
        self._batch_size = settings.batch_size
        self._broken: set[int] = set()
        self.skipped: list[str] = []

    def passes(self, examples: Sequence[Example], dev: Sequence[Example]) -> Iterator[PassReport]:
        """Train until the passes are done or the development split stops improving.

        The last weights are kept if `dev` is empty, or if the passes are too few to stop before their end:
        as the learn rate falls, the last of a few is hardly ever worse by more than chance, and to choose
        would cost as much as a pass. Raises TrainingDiverged.
        """
        optimizer = Adam(self._learn_rate)
        prepare_to_learn(self._pipe.model)
        total = self._planned_passes(len(examples))
        best, first_loss = _Best(self._pipe.model), math.inf
        examples = list(examples)
        chooses = bool(dev) and total > self._settings.patience
        for iteration in range(1, total + 1):
            self._rng.shuffle(examples)
            schedule = _falling(self._learn_rate, iteration, total, self._updates(len(examples)))
            loss, words, seconds = self._one_pass(examples, optimizer, schedule)
            first_loss = loss if iteration == 1 else first_loss
            self._check(loss, first_loss)
            score = score_pipe(self._task, self._pipe, dev) if chooses else None
            yield PassReport(
                task=self._task, iteration=iteration, total=total, loss=loss, words=words,
                seconds=seconds, score=score, is_best=best.is_best(score, is_last=iteration == total),
            )  # fmt: skip
            enough = iteration * self._updates(len(examples)) >= self._plan.min_updates
            if enough and best.stale >= self._settings.patience:
                break
        best.restore()

    def _updates(self, examples: int) -> int:
        """Updates in a pass."""
        return max(1, math.ceil(examples / self._settings.batch_size))

    def _planned_passes(self, examples: int) -> int:
        """Those of the plan, or more where a small corpus would get too few updates."""
        return max(self._plan.passes, math.ceil(self._plan.min_updates / self._updates(examples)))

    def _one_pass(
        self, examples: Sequence[Example], optimizer: Optimizer, schedule: Iterator[float]
    ) -> tuple[float, int, float]:
        """The summed loss, the words and the seconds of a pass."""
        started, losses, words = perf_counter(), 0.0, 0
        remaining = iter(examples)
        while batch := list(islice(remaining, self._batch_size)):
            batch = [example for example in batch if id(example) not in self._broken]
            optimizer.learn_rate = next(schedule)
            losses += self._update(batch, optimizer)
            words += sum(len(example.reference) for example in batch)
        return losses, words, perf_counter() - started

    def _update(self, batch: list[Example], optimizer: Optimizer) -> float:
        """One step; in halves when memory runs out, one by one when an example breaks it."""
        if not batch:
            return 0.0
        try:
            return self._step(batch, optimizer)
        except MemoryError:
            discard_gradients(self._pipe.model)
            return self._update_in_halves(batch, optimizer)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            discard_gradients(self._pipe.model)
            return self._update_one_by_one(batch, optimizer, error)

    def _step(self, batch: list[Example], optimizer: Optimizer) -> float:
        scale_learn_rate(self._pipe.model, optimizer.learn_rate / self._settings.learn_rate)
        losses = self._nlp.update(
            batch, sgd=optimizer, drop=self._settings.dropout, losses={}, exclude=self._others
        )
        return float(losses.get(self._pipe.name, 0.0))

    def _update_in_halves(self, batch: list[Example], optimizer: Optimizer) -> float:
        if len(batch) == 1:
            raise MemoryError("a single example does not fit into memory")
        self._batch_size = max(1, len(batch) // 2)
        logger.warning("out of memory: the batch size is now %d", self._batch_size)
        middle = len(batch) // 2
        return self._update(batch[:middle], optimizer) + self._update(batch[middle:], optimizer)

    def _update_one_by_one(self, batch: list[Example], optimizer: Optimizer, error: Exception) -> float:
        if len(batch) > 1:
            return sum(self._update([example], optimizer) for example in batch)
        self._broken.add(id(batch[0]))
        self.skipped.append(f"{self._task}: {type(error).__name__}: {error}"[:300])
        return 0.0

    def _check(self, loss: float, first_loss: float) -> None:
        if not math.isfinite(loss) or loss > EXPLODED * max(first_loss, 1.0):
            raise TrainingDiverged(
                f"the loss of {self._task} went to {loss} (first pass: {first_loss:.3g}): "
                f"lower {self._rate_setting}, or look at the newest examples"
            )
        if not all_finite(self._pipe.model):
            raise TrainingDiverged(f"the weights of {self._task} are not finite: lower {self._rate_setting}")

    @property
    def _rate_setting(self) -> str:
        """Where the rate is set at which this pipe learns."""
        own = any(True for _ in online_trainables(self._pipe.model))
        return f"learn_rate of {self._pipe.name}'s model in its config" if own else "training.learn_rate"


class _Best:
    """The weights with the best score so far, and for how many passes it has not got better.

    Of equal scores the later one is kept: it has seen more, and on a small development split equal is
    all that can be seen.
    """

    def __init__(self, model: Model[Any, Any]) -> None:
        self._model = model
        self._score = -1.0
        self._weights = b""
        self.stale = 0

    def is_best(self, score: float | None, *, is_last: bool) -> bool:
        """Take note of a pass. Without scores no pass is best, and none is stale."""
        if score is None:
            return False
        self.stale = 0 if score > self._score else self.stale + 1
        if score < self._score:
            return False
        self._score = score
        self._weights = b"" if is_last else self._model.to_bytes()  # the last ones stay where they are
        return True

    def restore(self) -> None:
        """Put the best weights back, if any pass was scored."""
        if self._weights:
            self._model.from_bytes(self._weights)


def _falling(learn_rate: float, iteration: int, total: int, updates: int) -> Iterator[float]:
    """The learn rates of a pass: over all passes they fall in a line to a twentieth.

    Continuing at a constant rate leaves the weights of spaCy's pipes wherever the last batches pushed them.
    """
    done = (iteration - 1) * updates
    while True:
        yield learn_rate * max(LAST_RATE, 1.0 - done / (total * updates))
        done += 1


def discard_gradients(model: Model[Any, Any]) -> None:
    """Forget what a step that failed half-way has accumulated."""
    for own in online_trainables(model):
        own.discard_gradients()
    for node in model.walk():
        for name in node.grad_names:
            if node.has_grad(name):
                gradient: Any = node.get_grad(name)
                gradient[:] = 0.0


def all_finite(model: Model[Any, Any]) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(own.all_finite() for own in online_trainables(model)) and all(
        bool(np.isfinite(np.asarray(node.get_param(name))).all())
        for node in model.walk()
        for name in node.param_names
        if node.has_param(name)
    )


def score_pipe(task: Task, pipe: Any, examples: Sequence[Example]) -> float:
    """Accuracy of a text categorizer, F1 of exact spans of an entity recognizer."""
    texts = [example.x.copy() for example in examples]
    predicted = list(pipe.pipe(iter(texts), batch_size=256))
    if task == "entities":
        pairs = zip(examples, predicted, strict=True)
        return span_f1((spans_of(example.y), spans_of(doc)) for example, doc in pairs)
    labels = pipe.labels
    right = sum(
        example.y.cats.get(likeliest(scores_of(doc, labels)) or "") == 1.0
        for doc, example in zip(predicted, examples, strict=True)
    )
    return right / len(examples)


def scores_of(doc: Doc, labels: Sequence[str]) -> dict[str, float]:
    """What a text categorizer with these labels has given the document; 0 where it has given nothing."""
    return {label: doc.cats.get(label, 0.0) for label in labels}


def likeliest(scores: Mapping[str, float] | None) -> str | None:
    """The label with the highest score, of equal ones the first; None if there is none."""
    return max(scores, key=scores.__getitem__) if scores else None


def spans_of(doc: Doc) -> tuple[Span, ...]:
    """The entities of a document."""
    return tuple((span.start_char, span.end_char, span.label_) for span in doc.ents)
