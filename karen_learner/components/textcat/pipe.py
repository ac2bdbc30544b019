"""`karen_textcat`: an exclusive text categorizer for a shared corpus and continued training.

Differences to `textcat`:

- A pipe uses only its own labels. Two pipes (intent and sentiment) can train on documents with a category of
  each. spaCy's pipe refuses such a document (E895).
- A document without a label of the pipe is unknown, not negative. Training and scoring omit it.
- Scores also have the name of the pipe (`intent_acc`, `intent_macro_f`). Of several pipes in a pipeline,
  `cats_*` are those of the last one.
- Labels added later can be trained (see `make_new_labels_learnable`).
- `calibrate` fits probabilities and a threshold for out-of-scope texts. `calibrate_margins` does so with the
  margins of several models, each for texts that it has not learned (cross-fitting).

Any registered text classification architecture can be the model. Weights change only in `finish_update`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from spacy.errors import Errors
from spacy.language import Language
from spacy.pipeline.textcat import TextCategorizer
from spacy.tokens import Doc
from spacy.training import Example, validate_examples, validate_get_examples
from thinc.api import Model, Optimizer
from thinc.types import Floats2d

from karen_learner.components.arrays import Floats, Mask
from karen_learner.components.online.sample_weights import sample_weights
from karen_learner.components.online.shim import OptimizerStateMixin
from karen_learner.components.textcat.architecture import shim_of, squared_hinge
from karen_learner.components.textcat.calibration import (
    MARGIN_SCALE,
    Calibration,
    CalibrationReport,
    fit_calibration,
    in_scope_scores,
    probabilities,
)
from karen_learner.components.textcat.margins import LabelledMargins, Margins

DEFAULT_MODEL = {"@architectures": "karen_learner.SparseNgrams.v2", "exclusive_classes": True}
SAMPLE_EXAMPLES = 10
"""Number of examples that initialize a model."""
SCORE_WEIGHTS = {
    "cats_score": 1.0,
    "cats_score_desc": None,
    "cats_micro_p": None,
    "cats_micro_r": None,
    "cats_micro_f": None,
    "cats_macro_p": None,
    "cats_macro_r": None,
    "cats_macro_f": None,
    "cats_macro_auc": None,
    "cats_f_per_type": None,
}
"""The scores of spaCy's text categorizers, with their weights in `training.score_weights`."""
LOWEST_TRAINABLE_BIAS = -1000.0
_SMALLEST = 1e-9
_SHARED_CORPUS = (
    "If the documents have categories of several pipes, give the labels of {name!r} to `initialize`, or in "
    "the config in [initialize.components.{name}]"
)


def is_out_of_scope(doc: Doc, pipe_name: str) -> bool:
    """Whether the pipe found the text out of scope; False for a pipe without a threshold."""
    return bool(doc.user_data.get(f"{pipe_name}.out_of_scope", False))


def make_new_labels_learnable(model: Model[Any, Any]) -> None:
    """Raise biases at or below LOWEST_TRAINABLE_BIAS to just below the lowest other bias.

    spaCy gives a new label a bias of -5000, so that it is never predicted untrained. Adam moves a weight by
    about its learn rate a step: at 0.001 such a bias needs millions of updates.
    """
    layer = model.maybe_get_ref("output_layer")
    if layer is None or not layer.has_param("b"):
        return
    bias: Any = layer.get_param("b").copy()
    too_low = bias <= LOWEST_TRAINABLE_BIAS
    if too_low.any() and not too_low.all():
        bias[too_low] = bias[~too_low].min() - 1.0
        layer.set_param("b", bias)


class BaseTextCategorizer(OptimizerStateMixin, TextCategorizer):
    """A text categorizer with a separate label set, calibration, and a separate learning state.

    Subclasses define whether labels are `exclusive`.
    """

    exclusive: bool

    def initialize(  # type: ignore[override]
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,  # noqa: ARG002 - spaCy's interface
        labels: Iterable[str] | None = None,
    ) -> None:
        """Remove the calibration, set the labels (by default all categories), and make new weights.

        After `add_label` the examples need no label of this pipe: they only show what a document is.
        """
        validate_get_examples(get_examples, f"{type(self).__name__}.initialize")
        self.cfg.pop("calibration", None)
        if labels is None:
            labels = dict.fromkeys(label for example in get_examples() for label in example.reference.cats)
        for label in labels:
            self.add_label(label)
        self._require_labels()
        if self.exclusive and len(self.labels) < 2:
            raise ValueError(Errors.E867)
        self._validate_categories(get_examples())
        sample = self._sample(get_examples)
        truths, _ = self._examples_to_truth(sample)
        self.model.initialize(X=[example.reference for example in sample], Y=truths)

    def _sample(self, get_examples: Callable[[], Iterable[Example]]) -> list[Example]:
        """The examples that initialize the model: those with a label of this pipe, if there are any."""
        found = list(islice(self._known(get_examples()), SAMPLE_EXAMPLES))
        sample = found or list(islice(get_examples(), SAMPLE_EXAMPLES))
        if not sample:
            raise ValueError(Errors.E923.format(name=self.name))
        return sample

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Accumulate the gradients of examples with a label of this pipe. Weights change only with `sgd`.

        A SparseNgrams model uses the sample weights. Returns `losses` with the mean squared error of the
        batch added under the name of the pipe.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.update")
        known = [example for example in self._known(examples) if len(example.predicted)]
        if not known:
            return losses
        shim = shim_of(self.model)
        if shim is None:
            make_new_labels_learnable(self.model)
            return super().update(known, drop=drop, sgd=sgd, losses=losses)
        shim.sample_weights = sample_weights(known)
        try:
            return super().update(known, drop=drop, sgd=sgd, losses=losses)
        finally:
            shim.sample_weights = None

    def rehearse(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Move the scores of the examples towards those at the last `nlp.resume_training`.

        Categories of the examples are ignored. Without `resume_training` nothing happens. A SparseNgrams
        model minimizes the squared distance of the margins of the labels that it had then.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.rehearse")
        docs = [example.predicted for example in examples if len(example.predicted)]
        before: Any = self._rehearsal_model
        if before is None or not docs:
            return losses
        shim, former = shim_of(self.model), shim_of(before)
        if shim is None or former is None:
            plain = [Example(doc, doc) for doc in docs]
            return super().rehearse(plain, drop=drop, sgd=sgd, losses=losses)
        losses[self.name] += shim.rehearse(docs, former.margins(docs).margins)
        if sgd is not None:
            self.finish_update(sgd)
        return losses

    def document_losses(self, docs: Sequence[Doc]) -> Floats | None:
        """Loss of each gold document, shape (docs,); None for a model other than SparseNgrams.

        It is the largest loss of a true label plus the largest loss of a false label. The sum over all labels
        would mostly consist of labels that are no alternatives.
        """
        shim = shim_of(self.model)
        if shim is None:
            return None
        truths = self._truths([doc.cats for doc in docs])
        loss = squared_hinge(shim.margins(docs).margins, truths)
        return np.asarray(sum(np.where(truths == side, loss, 0.0).max(axis=1) for side in (0.0, 1.0)))

    def add_label(self, label: str) -> int:
        """Add a label at any time: 1 if it is new, 0 if not. The next update trains it.

        A new label removes the out-of-scope threshold, because texts of the label were out of scope for it.
        The rest of the calibration stays. The next calibration fits a threshold.
        """
        added = super().add_label(label)
        if added and (calibration := self.calibration) is not None:
            self.cfg["calibration"] = replace(calibration, threshold=None).as_record()
        return added

    def get_loss(self, examples: Iterable[Example], scores: Any) -> tuple[float, Any]:
        """Mean squared error, and its gradient of shape (examples, labels).

        `scores` (examples, labels) may have the further column of `predict`.
        """
        loss, gradient = super().get_loss(examples, scores[:, : len(self.labels)])
        return loss, gradient

    def predict(self, docs: Iterable[Doc]) -> Any:
        """Probabilities, shape (texts, labels); zeros for empty documents.

        A model of another package that is not calibrated gives its own scores. A pipe with a threshold adds a
        column: in-scope score minus threshold.
        """
        docs, calibration = list(docs), self.calibration
        if calibration is None and shim_of(self.model) is None:
            return self._without_empty(docs, np.array(super().predict(docs), dtype=np.float32))
        margins = self._margins(docs)
        scale = self._uncalibrated_scale if calibration is None else calibration.scale
        scores = probabilities(margins.margins, scale, exclusive=self.exclusive)
        if calibration is not None and calibration.threshold is not None:
            label = calibration.out_of_scope_label
            column = None if label is None else self._column(label)
            distance = in_scope_scores(margins, out_of_scope=column) - calibration.threshold
            scores = np.concatenate([scores, distance[:, None]], axis=1)
        return self._without_empty(docs, scores)

    def _without_empty(self, docs: Sequence[Doc], scores: Floats) -> Floats:
        """The scores with zeros for the labels of empty documents."""
        scores[[not len(doc) for doc in docs], : len(self.labels)] = 0.0
        return scores

    def set_annotations(self, docs: Iterable[Doc], scores: Floats2d) -> None:
        """Write `{label: probability}` into `doc.cats`.

        A pipe with a threshold also writes `"<pipe name>.out_of_scope"` into `doc.user_data`.
        """
        names = self.labels
        for doc, row in zip(docs, scores.tolist(), strict=True):
            doc.cats.update(zip(names, row, strict=False))
            if len(row) > len(names):
                doc.user_data[f"{self.name}.out_of_scope"] = row[-1] < 0.0 or not len(doc)

    @property
    def support_missing_values(self) -> bool:
        """Whether a missing category of an example with other categories is unknown."""
        return not self.exclusive

    @property
    def calibration(self) -> Calibration | None:
        """The result of `calibrate`; None before the first call since `initialize`."""
        stored: Any = self.cfg.get("calibration")
        return Calibration.from_record(stored) if stored else None

    def calibrate(
        self,
        examples: Iterable[Example],
        *,
        false_alarm_rate: float | None = 0.05,
        out_of_scope_label: str | None = None,
    ) -> CalibrationReport:
        """Fit probabilities and the out-of-scope threshold for the present weights.

        The `examples` must not be part of the training. At most `false_alarm_rate` of new in-scope texts are
        expected below the threshold. There is none for a rate of None, or for n < 1 / rate - 1 in-scope
        examples. Raises ValueError without a known example.
        """
        docs = [example.reference for example in self._known(examples) if len(example.reference)]
        return self.calibrate_margins(
            self.margins(docs),
            [doc.cats for doc in docs],
            false_alarm_rate=false_alarm_rate,
            out_of_scope_label=out_of_scope_label,
        )

    def margins(self, docs: Iterable[Doc]) -> LabelledMargins:
        """Margins before calibration. Documents should have tokens: `calibrate` omits empty ones."""
        return LabelledMargins(tuple(self.labels), self._margins(list(docs)))

    def calibrate_margins(
        self,
        margins: LabelledMargins,
        categories: Sequence[Mapping[str, float]],
        *,
        false_alarm_rate: float | None = 0.05,
        out_of_scope_label: str | None = None,
    ) -> CalibrationReport:
        """Fit probabilities and the out-of-scope threshold to margins of this pipe or of others like it.

        `categories` (texts,) are the true ones, like `Doc.cats`. The pipe that computed the margins of a text
        must not have learned the text. Columns match by label. A category that the other pipe or this one
        lacks is unknown. A text without a known category is omitted: no scale changes its likelihood. Raises
        ValueError if the lengths differ, or without a known text.
        """
        if len(categories) != len(margins):
            raise ValueError(f"there are margins of {len(margins)} texts, categories of {len(categories)}")
        found, truths = margins.aligned(self.labels), self._truths(categories)
        truths[np.isneginf(found.margins)] = np.nan
        known: Mask = np.logical_or.reduce(truths == 1.0 if self.exclusive else ~np.isnan(truths), axis=1)
        if not known.any():
            raise ValueError(f"the pipe {self.name!r} cannot be calibrated: no example has one of its labels")
        label = out_of_scope_label
        report = fit_calibration(
            found.rows(known),
            truths[known],
            exclusive=self.exclusive,
            uncalibrated_scale=self._uncalibrated_scale,
            false_alarm_rate=false_alarm_rate,
            out_of_scope=None if label is None else (label, self._column(label)),
        )
        self.cfg["calibration"] = report.calibration.as_record()
        return report

    @property
    def _uncalibrated_scale(self) -> float:
        return 1.0 if shim_of(self.model) is None else MARGIN_SCALE

    def _column(self, label: str) -> int:
        index = self._label_index()
        if label not in index:
            raise ValueError(f"{label!r} is no label of the pipe {self.name!r}")
        return index[label]

    def _margins(self, docs: Sequence[Doc]) -> Margins:
        """Margins of a SparseNgrams model; logarithms (or logits) of the scores of other models."""
        shim = shim_of(self.model)
        if shim is not None:
            return shim.margins(docs)
        scores = np.maximum(np.asarray(super().predict(docs), dtype=np.float32), _SMALLEST)
        unknown = np.zeros(len(docs), dtype=np.float32)
        if self.exclusive:
            return Margins(np.log(scores), unknown)
        return Margins(np.log(scores) - np.log(np.maximum(1.0 - scores, _SMALLEST)), unknown)

    def _examples_to_truth(self, examples: Iterable[Example]) -> tuple[Any, Any]:
        """Arrays of shape (examples, labels): the gold categories, and 1.0 for known ones."""
        truths = self._truths([example.reference.cats for example in examples])
        known = (~np.isnan(truths)).astype(np.float32)
        gold: Any = np.nan_to_num(truths)
        return self.model.ops.asarray(gold), known

    def _truths(self, categories: Sequence[Mapping[str, float]]) -> Floats:
        """True categories, shape (texts, labels); NaN for unknown ones. All exclusive labels are known."""
        index = self._label_index()
        truths = np.full((len(categories), len(index)), 0.0 if self.exclusive else np.nan, dtype=np.float32)
        for row, cats in enumerate(categories):
            for label, value in cats.items():
                if label in index:
                    truths[row, index[label]] = value
        return truths

    def _known(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The examples with an annotation for the labels of this pipe. An exclusive label must be true."""
        index = self._label_index()
        for example in examples:
            cats = example.reference.cats
            if any(label in index and (value == 1.0 or not self.exclusive) for label, value in cats.items()):
                yield example

    def _validate_categories(self, examples: Iterable[Example]) -> None:
        """Values of this pipe's labels are 0.0 or 1.0, and at most one exclusive label is true."""
        index = self._label_index()
        for example in examples:
            cats = example.reference.cats
            values = [value for label, value in cats.items() if label in index]
            if self.exclusive and values.count(1.0) > 1:
                raise ValueError(f"{Errors.E895.format(value=cats)} {_SHARED_CORPUS.format(name=self.name)}")
            for value in values:
                if value not in (0.0, 1.0):
                    raise ValueError(Errors.E851.format(val=value))

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """The scores of the `scorer` for the examples with a known label, as `cats_*` and `<pipe name>_*`.

        Exclusive labels also have an accuracy, `<pipe name>_acc`. Nothing without a known label or a scorer.
        `kwargs` are those of the scorer, such as `threshold`.
        """
        known = list(self._known(examples))
        if not known or self.scorer is None:
            return {}
        scores: dict[str, Any] = super().score(known, **kwargs)
        accuracy = {f"{self.name}_acc": self._accuracy(known)} if self.exclusive else {}
        named = {key.replace("cats", self.name, 1): value for key, value in scores.items()}
        return {**scores, **accuracy, **named}

    def _accuracy(self, known: Sequence[Example]) -> float:
        right = 0
        for example in known:
            predicted = example.predicted.cats
            best = max(self.labels, key=lambda label: predicted.get(label, 0.0))
            right += example.reference.cats.get(best, 0.0) == 1.0
        return right / len(known)

    def _label_index(self) -> dict[str, int]:
        """Position of each label."""
        return {label: position for position, label in enumerate(self.cfg["labels"])}


class KarenTextCategorizer(BaseTextCategorizer):
    """A text categorizer with exclusive labels."""

    exclusive = True

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Iterable[str] | None = None,
        positive_label: str | None = None,
    ) -> None:
        """Set the labels (by default all categories of the examples) and new weights.

        Give `labels` for a corpus with categories of other pipes. With `positive_label`, one of two labels,
        `cats_score` is the F1 of that label.
        """
        super().initialize(get_examples, nlp=nlp, labels=labels)
        if positive_label is not None:
            if positive_label not in self.labels:
                raise ValueError(Errors.E920.format(pos_label=positive_label, labels=self.labels))
            if len(self.labels) != 2:
                raise ValueError(Errors.E919.format(pos_label=positive_label, labels=self.labels))
        self.cfg["positive_label"] = positive_label


@Language.factory(
    "karen_textcat",
    assigns=["doc.cats"],
    default_config={
        "model": DEFAULT_MODEL,
        "threshold": 0.0,
        "scorer": {"@scorers": "spacy.textcat_scorer.v2"},
    },
    default_score_weights=SCORE_WEIGHTS,
)
def make_karen_textcat(
    nlp: Language,
    name: str,
    model: Model[list[Doc], Floats2d],
    threshold: float,
    scorer: Callable[..., dict[str, Any]] | None,
) -> KarenTextCategorizer:
    """Make a `karen_textcat` pipe. `threshold` has no effect; it is part of spaCy's interface."""
    return KarenTextCategorizer(nlp.vocab, model, name, threshold=threshold, scorer=scorer)
