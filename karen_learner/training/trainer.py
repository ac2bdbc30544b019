"""The training loop of one pipe, as a generator of passes.

Gradient steps use `nlp.update` with all other pipes excluded, so that an example trains only the pipes it has
labels for. It copies all examples, which takes a third of the time of a small step. So our pipes are updated
directly. The last weights are kept: the learn rate decays, and all examples train.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from time import perf_counter
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.training import Example
from thinc.api import Adam, Model, Optimizer

from karen_learner.components.online.shim import learning_shims, prepare_to_learn, scale_learn_rate
from karen_learner.errors import TrainingDiverged
from karen_learner.records import CycleMode, Task
from karen_learner.records.training import PassReport
from karen_learner.settings import TrainingSettings
from karen_learner.training.pipelines import learns_online

logger = logging.getLogger(__name__)

FINAL_RATE = 0.05
"""The last learn rate, as a share of the first; it decays linearly over all passes. With a constant rate, the
last batches dominate the weights of spaCy's pipes."""
DIVERGENCE_FACTOR = 1000.0
"""Training diverges if a loss is this many times the loss of the first pass."""


@dataclass(frozen=True)
class Plan:
    """Passes of a pipe, or more for `min_updates`; its first learn rate as a share of the configured one."""

    passes: int
    min_updates: int
    rate: float


def plan_of(settings: TrainingSettings, *, mode: CycleMode, continues: bool) -> Plan:
    """The plan of a new pipe, or of a trained one that training continues."""
    if continues:
        return Plan(settings.continuing_n_iter, 0, settings.continuing_rate)
    return Plan(settings.n_iter, settings.min_updates if mode == "full" else 0, 1.0)


class PipeTrainer:
    """Trains one pipe of a pipeline in place."""

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
        self._is_ours = learns_online(self._pipe)
        self._others = [name for name in nlp.pipe_names if name != pipe_name]
        self._settings = settings
        self._plan = plan
        self._rng = rng
        self._learn_rate = settings.learn_rate * plan.rate
        self._batch_size = settings.batch_size
        self._broken: set[int] = set()
        self.skipped: list[str] = []

    def passes(self, examples: Sequence[Example]) -> Iterator[PassReport]:
        """Train until the last pass. Raises TrainingDiverged."""
        optimizer = Adam(self._learn_rate)
        prepare_to_learn(self._pipe.model)
        updates = max(1, math.ceil(len(examples) / self._settings.batch_size))  # of a pass
        total = max(self._plan.passes, math.ceil(self._plan.min_updates / updates))
        examples, first_loss = list(examples), math.inf
        for iteration in range(1, total + 1):
            self._rng.shuffle(examples)
            schedule = (self._rate(step / (total * updates)) for step in count((iteration - 1) * updates))
            loss, words, seconds = self._one_pass(examples, optimizer, schedule)
            first_loss = loss if iteration == 1 else first_loss
            self._check(loss, first_loss)
            yield PassReport(
                task=self._task, iteration=iteration, total=total, loss=loss, words=words, seconds=seconds
            )

    def _rate(self, share_done: float) -> float:
        return self._learn_rate * max(FINAL_RATE, 1.0 - share_done)

    def _one_pass(
        self, examples: Sequence[Example], optimizer: Optimizer, schedule: Iterator[float]
    ) -> tuple[float, int, float]:
        """The summed loss, the words and the seconds of one pass."""
        started, losses, words = perf_counter(), 0.0, 0
        remaining = iter(examples)
        while batch := list(islice(remaining, self._batch_size)):
            batch = [example for example in batch if id(example) not in self._broken]
            optimizer.learn_rate = next(schedule)
            losses += self._update(batch, optimizer)
            words += sum(len(example.reference) for example in batch)
        return losses, words, perf_counter() - started

    def _update(self, batch: list[Example], optimizer: Optimizer) -> float:
        """The loss of one step. Out of memory: in halves. An example raises: one by one."""
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
        drop, losses = self._settings.dropout, dict[str, float]()
        if self._is_ours:
            scale_learn_rate(self._pipe.model, optimizer.learn_rate / self._settings.learn_rate)
            self._pipe.update(batch, sgd=optimizer, drop=drop, losses=losses)
        else:
            self._nlp.update(batch, sgd=optimizer, drop=drop, losses=losses, exclude=self._others)
        return float(losses.get(self._pipe.name, 0.0))

    def _update_in_halves(self, batch: list[Example], optimizer: Optimizer) -> float:
        if len(batch) == 1:
            raise MemoryError("a single example does not fit into memory")
        self._batch_size = max(1, len(batch) // 2)
        logger.warning("out of memory: the batch size is reduced to %d", self._batch_size)
        middle = len(batch) // 2
        return self._update(batch[:middle], optimizer) + self._update(batch[middle:], optimizer)

    def _update_one_by_one(self, batch: list[Example], optimizer: Optimizer, error: Exception) -> float:
        if len(batch) > 1:
            return sum(self._update([example], optimizer) for example in batch)
        self._broken.add(id(batch[0]))
        self.skipped.append(f"{self._task}: {type(error).__name__}")  # a message may quote the text
        logger.warning("%s skips an example: %s: %s", self._task, type(error).__name__, error)
        return 0.0

    def _check(self, loss: float, first_loss: float) -> None:
        if not math.isfinite(loss) or loss > DIVERGENCE_FACTOR * max(first_loss, 1.0):
            raise TrainingDiverged(
                f"the loss of {self._task} is {loss} (first pass: {first_loss:.3g}): "
                f"lower {self._rate_setting}, or check the newest examples"
            )
        if not all_finite(self._pipe.model):
            raise TrainingDiverged(f"the weights of {self._task} are not finite: lower {self._rate_setting}")

    @property
    def _rate_setting(self) -> str:
        """The name of the setting with the learn rate of this pipe."""
        ours = f"learn_rate of {self._pipe.name}'s model in its config"
        return ours if self._is_ours else "training.learn_rate"


def discard_gradients(model: Model[Any, Any]) -> None:
    """Discard the gradients of a failed step."""
    for shim in learning_shims(model):
        shim.discard_gradients()
    for node in model.walk():
        for name in node.grad_names:
            if node.has_grad(name):
                gradient: Any = node.get_grad(name)
                gradient[:] = 0.0


def all_finite(model: Model[Any, Any]) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(shim.all_finite() for shim in learning_shims(model)) and all(
        bool(np.isfinite(np.asarray(node.get_param(name))).all())
        for node in model.walk()
        for name in node.param_names
        if node.has_param(name)
    )
