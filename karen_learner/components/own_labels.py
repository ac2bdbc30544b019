"""What our text categorizers do otherwise than spaCy's, whether their labels exclude each other or not."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from spacy.pipeline.textcat import TextCategorizer
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from thinc.api import Optimizer, set_dropout_rate
from thinc.types import Floats2d

from karen_learner.components.calibration import (
    Calibration,
    CalibrationReport,
    expected_calibration_error,
    fit_scale,
    in_scope_scores,
    log_loss,
    logistic,
    refusal_threshold,
    softmax,
)
from karen_learner.components.example_weights import weights_of
from karen_learner.components.moods import Judged, MoodEffect, Notes, fit_effect, mood_of
from karen_learner.components.new_labels import make_new_labels_learnable
from karen_learner.components.sparse_ngrams import MARGIN_SCALE, Margins, shim_of, squared_hinge
from karen_learner.components.state_keeping import KeepsState

_SMALLEST = 1e-9


def is_out_of_scope(doc: Doc, pipe_name: str) -> bool:
    """Whether the pipe found that the text is none of its business; False if it was not calibrated for it."""
    return bool(doc.user_data.get(f"{pipe_name}.out_of_scope", False))


class OwnLabels(KeepsState, TextCategorizer, ABC):
    """A text categorizer that knows which labels are its own, can be calibrated, and keeps its state apart.

    Subclasses say which examples are known (`_is_known`) and whether labels exclude each other.
    """

    exclusive = True
    _notes: Notes | None = None
    _indexed: tuple[Any, dict[str, int]] = (None, {})
    """The list of labels that was indexed last, and the position of each."""

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Accumulate gradients for the examples that carry one of this pipe's labels.

        The weights move only if `sgd` is given. What an example counts (see `example_weights`) is heeded by
        a model of ours. Returns `losses` with the batch's mean squared error added under the pipe's name.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.update")
        known = [example for example in examples if self._is_known(example) and len(example.predicted)]
        if not known:
            return losses
        set_dropout_rate(self.model, drop)
        scores, backprop = self.model.begin_update([example.predicted for example in known])
        self._note_moods(known, scores)
        loss, gradient = self.get_loss(known, scores)
        with self._weighted(known):
            backprop(gradient)
        if sgd is not None:
            self.finish_update(sgd)
        losses[self.name] += loss
        return losses

    @contextmanager
    def _weighted(self, examples: Sequence[Example]) -> Iterator[None]:
        """While it lasts, a model of ours learns from the batch by what each example counts."""
        shim = shim_of(self.model)
        if shim is None:
            yield
            return
        shim.example_weights = weights_of(examples)
        try:
            yield
        finally:
            shim.example_weights = None

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> Self:
        """Take over what `to_bytes` has made; what was noted of another model is forgotten."""
        self._notes = None
        return super().from_bytes(bytes_data, exclude=exclude)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> Self:
        """Read the pipe; what was noted of another model is forgotten."""
        self._notes = None
        return super().from_disk(path, exclude=exclude)

    def losses_of(self, docs: Sequence[Doc]) -> NDArray[np.float32] | None:
        """How far a model of ours is from each gold document, shape (docs,); None for any other model.

        It is the loss of the true label that is furthest off, and that of the false one. The sum over all
        labels would say little: most of it is what many labels that nobody confuses lack of a margin.
        """
        shim = shim_of(self.model)
        if shim is None:
            return None
        truths = self._truths(docs)
        loss = squared_hinge(shim.margins(docs).margins, truths)
        return np.asarray(sum(np.where(truths == side, loss, 0.0).max(axis=1) for side in (0.0, 1.0)))

    def sure_labels(self, docs: Sequence[Doc], *, least: float) -> list[str | None]:
        """The label of each document of whose probability a calibrated model of ours is sure.

        None below `least`, where the text is out of scope or empty, and everywhere if the pipe is not
        calibrated, its model is none of ours, or its labels do not exclude each other.
        """
        if shim_of(self.model) is None or self.calibration is None or not self.exclusive or not docs:
            return [None] * len(docs)
        scores = self.predict(docs)
        names, own = self.labels, scores[:, : len(self.labels)]
        sure = own.max(axis=1) >= least
        if scores.shape[1] > len(names):
            sure &= scores[:, -1] >= 0.0
        best = own.argmax(axis=1)
        return [names[label] if known else None for label, known in zip(best, sure, strict=True)]

    def add_label(self, label: str) -> int:
        """Add a label at any time: 1 if it is new, 0 if not. It can be learned from the next update on."""
        added = super().add_label(label)
        if added:
            make_new_labels_learnable(self.model)
            self._notes = None
        return added

    def predict(self, docs: Iterable[Doc]) -> Any:
        """Probabilities, calibrated if the pipe is, in the documents' moods; zeros for empty documents.

        Shape (texts, labels); with one more column, what the text's score lies above the threshold for
        being in scope, if the pipe was calibrated for that.
        """
        docs = list(docs)
        calibration, margins = self.calibration, self._margins(docs)
        scores = self._probabilities(docs, margins, calibration)
        if calibration is not None and calibration.threshold is not None:
            above = self._in_scope_scores(margins, calibration) - calibration.threshold
            scores = np.concatenate([scores, above[:, None]], axis=1)
        scores[[not len(doc) for doc in docs], : len(self.labels)] = 0.0
        return scores

    def set_annotations(self, docs: Iterable[Doc], scores: Floats2d) -> None:
        """Write `{label: probability}` of this pipe's labels into each `doc.cats`.

        A calibrated pipe also writes `"<pipe name>.out_of_scope"` into `doc.user_data`.
        """
        own = self.labels
        for doc, row in zip(docs, scores.tolist(), strict=True):
            doc.cats.update(zip(own, row, strict=False))
            if len(row) > len(own):
                doc.user_data[f"{self.name}.out_of_scope"] = row[-1] < 0.0 or not len(doc)

    @property
    def calibration(self) -> Calibration | None:
        """What `calibrate` has fitted; None if it was not called since the pipe was initialized."""
        stored: Any = self.cfg.get("calibration")
        return Calibration.from_record(stored) if stored else None

    def calibrate(
        self,
        examples: Iterable[Example],
        *,
        false_alarm_rate: float | None = 0.05,
        out_of_scope_label: str | None = None,
    ) -> CalibrationReport:
        """Fit probabilities, what moods say, and the threshold below which a text is out of scope, for the
        present weights.

        What moods say is told by the examples and, the first time, by what was said of those trained on (see
        `moods.Notes`). What was fitted before, on more texts in moods, goes on.

        `examples` must be such as the weights have not seen. At most `false_alarm_rate` of those in scope
        will be refused; with None there is no such threshold. `out_of_scope_label` is the label, if there
        is one, of texts that belong nowhere. Raises ValueError if no example is known.
        """
        known = [example for example in examples if self._is_known(example) and len(example.reference)]
        if not known:
            raise ValueError(f"the pipe {self.name!r} cannot be calibrated: no example has one of its labels")
        docs = [example.reference for example in known]
        margins, truths = self._margins(docs), self._truths(docs)
        scale = fit_scale(margins.margins, truths, exclusive=self.exclusive)
        moods = self._mood_effect(Judged(margins.margins * scale, truths, [mood_of(doc) for doc in docs]))
        calibration = Calibration(scale, None, false_alarm_rate, out_of_scope_label, moods)
        scores = self._in_scope_scores(margins, calibration)
        inside = self._are_in_scope(truths, out_of_scope_label)
        if false_alarm_rate is not None and inside.any():
            threshold = refusal_threshold(scores[inside], false_alarm_rate=false_alarm_rate)
            calibration = replace(calibration, threshold=threshold)
        report = self._report(docs, margins, truths, scores, inside, calibration)
        self.cfg["calibration"] = calibration.as_record()
        return report

    def _note_moods(self, examples: Sequence[Example], scores: Any) -> None:
        """Note what is said of texts in moods before they are learned from, as long as nothing can have been
        learned from them before: from the beginning to the first calibration."""
        docs, own = [example.predicted for example in examples], self._label_index()
        if self._notes is not None and any(not own.keys().isdisjoint(mood_of(doc)) for doc in docs):
            truths, _ = self._examples_to_truth(examples)
            self._notes.take(docs, np.asarray(scores), np.asarray(truths))

    def forget_notes(self) -> None:
        """Tell no more of moods by what was trained on so far; see `calibrate`."""
        self._notes = None

    def _mood_effect(self, held_out: Judged) -> MoodEffect | None:
        """What moods say of labels that exclude each other."""
        if not self.exclusive:
            return None
        judged = [held_out]
        if self._notes:
            noted = self._notes.judged()
            scale = fit_scale(noted.logits, noted.truths, exclusive=True)
            judged.append(replace(noted, logits=noted.logits * scale))
        self.forget_notes()
        fitted = fit_effect(judged, self.labels)
        before = None if self.calibration is None else self.calibration.moods
        if fitted is None or (before is not None and before.texts > fitted.texts):
            return before
        return fitted

    def _report(
        self,
        docs: Sequence[Doc],
        margins: Margins,
        truths: NDArray[np.float32],
        scores: NDArray[np.float32],
        inside: NDArray[np.bool_],
        calibration: Calibration,
    ) -> CalibrationReport:
        before = self._probabilities(docs, margins, None)
        after = self._probabilities(docs, margins, calibration)
        refused = None if calibration.threshold is None else scores < calibration.threshold
        return CalibrationReport(
            calibration=calibration,
            examples=len(truths),
            ece_before=self._calibration_error(before, truths),
            ece_after=self._calibration_error(after, truths),
            log_loss_before=log_loss(before, truths, exclusive=self.exclusive),
            log_loss_after=log_loss(after, truths, exclusive=self.exclusive),
            false_alarms=None if refused is None else float(refused[inside].mean()),
            out_of_scope_recall=None if refused is None or inside.all() else float(refused[~inside].mean()),
        )

    def _calibration_error(self, scores: NDArray[np.float32], truths: NDArray[np.float32]) -> float:
        if not self.exclusive:
            known = ~np.isnan(truths)
            return expected_calibration_error(scores[known], truths[known] == 1.0)
        best = scores.argmax(axis=1)
        right = truths[np.arange(len(truths)), best] == 1.0
        return expected_calibration_error(scores.max(axis=1), right)

    def _are_in_scope(self, truths: NDArray[np.float32], label: str | None) -> NDArray[np.bool_]:
        if label is None:
            return np.ones(len(truths), dtype=bool)
        return np.asarray(truths[:, self._column(label)] != 1.0)

    def _column(self, label: str) -> int:
        index = self._label_index()
        if label not in index:
            raise ValueError(f"{label!r} is no label of the pipe {self.name!r}")
        return index[label]

    def _examples_to_truth(self, examples: Iterable[Example]) -> tuple[Any, Any]:
        """Arrays of shape (examples, labels): the gold categories, and 1.0 where they are known."""
        truths, known = self._docs_to_truth([example.reference for example in examples])
        gold: Any = truths
        return self.model.ops.asarray(gold), known

    def _truths(self, docs: Sequence[Doc]) -> NDArray[np.float32]:
        truths, known = self._docs_to_truth(docs)
        return np.where(np.asarray(known) > 0, np.asarray(truths), np.float32(np.nan))

    def _margins(self, docs: Sequence[Doc]) -> Margins:
        """Of a model of ours its margins; of any other the logarithms (or logits) of its scores."""
        shim = shim_of(self.model)
        if shim is not None:
            return shim.margins(docs)
        scores = np.maximum(np.asarray(super().predict(docs), dtype=np.float32), _SMALLEST)
        unknown = np.zeros(len(docs), dtype=np.float32)
        if not self.exclusive:
            return Margins(np.log(scores) - np.log(np.maximum(1.0 - scores, _SMALLEST)), unknown)
        return Margins(np.log(scores), unknown)

    def _probabilities(
        self, docs: Sequence[Doc], margins: Margins, calibration: Calibration | None
    ) -> NDArray[np.float32]:
        uncalibrated = MARGIN_SCALE if shim_of(self.model) is not None else 1.0
        scale = uncalibrated if calibration is None else calibration.scale
        logits = margins.margins * np.float32(scale)
        if calibration is not None and calibration.moods is not None:
            logits += calibration.moods.of([mood_of(doc) for doc in docs], self.labels)
        squashed = (softmax if self.exclusive else logistic)(logits)
        return squashed.astype(np.float32, copy=False)

    def _in_scope_scores(self, margins: Margins, calibration: Calibration) -> NDArray[np.float32]:
        label = calibration.out_of_scope_label
        column = None if label is None else self._column(label)
        return in_scope_scores(margins.margins, margins.familiarity, margins.nearness, out_of_scope=column)

    @abstractmethod
    def _docs_to_truth(self, docs: Sequence[Doc]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Arrays of shape (docs, labels): the categories of gold documents, and 1.0 where they are known."""

    @abstractmethod
    def _is_known(self, example: Example) -> bool:
        """Whether the example says anything of this pipe's labels."""

    def _label_index(self) -> dict[str, int]:
        """Position of each label, remade only when labels have been added or others were loaded."""
        names: Any = self.cfg["labels"]
        known, index = self._indexed
        if known is not names or len(index) != len(names):
            index = {label: position for position, label in enumerate(names)}
            self._indexed = (names, index)
        return index

    @staticmethod
    def _categories_of(examples: Iterable[Example]) -> list[str]:
        return sorted({label for example in examples for label in example.reference.cats})
