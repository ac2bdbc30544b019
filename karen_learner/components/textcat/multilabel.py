"""`karen_textcat_multilabel`: any number of labels may be true of a text, and each may be unknown.

As with spaCy's `textcat_multilabel`, a category of 1.0 is true, of 0.0 false, and one that is absent is
unknown. As with `karen_textcat`, the pipe sees only its own labels and names its scores after itself.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.errors import Errors
from spacy.language import Language
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Example, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model
from thinc.types import Floats2d

from karen_learner.components.textcat.base import BaseTextCategorizer

Floats = NDArray[np.float32]

DEFAULT_MODEL = """
[model]
@architectures = "karen_learner.SparseNgrams.v1"
exclusive_classes = false
"""


class KarenMultiLabelTextCategorizer(BaseTextCategorizer):
    """A text categorizer whose labels do not exclude each other."""

    exclusive = False

    def initialize(  # type: ignore[override]
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,  # noqa: ARG002 - spaCy's interface
        labels: Iterable[str] | None = None,
    ) -> None:
        """Set the labels (by default every category of the examples) and make new weights."""
        validate_get_examples(get_examples, "KarenMultiLabelTextCategorizer.initialize")
        self.cfg.pop("calibration", None)
        for label in self._categories_of(get_examples()) if labels is None else labels:
            self.add_label(label)
        sample = list(islice(filter(self._is_known, get_examples()), 10))
        if not self.labels or not sample:
            raise ValueError(Errors.E923.format(name=self.name))
        truths, _ = self._examples_to_truth(sample)
        self.model.initialize(X=[example.reference for example in sample], Y=truths)

    def score(self, examples: Iterable[Example], **_: Any) -> dict[str, Any]:
        """Macro and micro scores of the examples with a known label, as `<pipe name>_*`."""
        known = [example for example in examples if self._is_known(example)]
        if not known:
            return {}
        threshold = self.cfg["threshold"]
        scores = Scorer.score_cats(known, "cats", labels=self.labels, multi_label=True, threshold=threshold)
        return {key.replace("cats", self.name, 1): value for key, value in scores.items()}

    def _is_known(self, example: Example) -> bool:
        own = self._label_index()
        return any(label in own for label in example.reference.cats)

    def _docs_to_truth(self, docs: Sequence[Doc]) -> tuple[Floats, Floats]:
        index = self._label_index()
        truths = np.zeros((len(docs), len(index)), dtype=np.float32)
        known = np.zeros_like(truths)
        for row, doc in enumerate(docs):
            for label, value in doc.cats.items():
                if label in index:
                    truths[row, index[label]], known[row, index[label]] = value, 1.0
        return truths, known

    def _validate_categories(self, examples: Iterable[Example]) -> None:
        """Values of this pipe's own labels are 0.0 or 1.0."""
        own = self._label_index()
        for example in examples:
            for label, value in example.reference.cats.items():
                if label in own and value not in (0.0, 1.0):
                    raise ValueError(Errors.E851.format(val=value))


@Language.factory(
    "karen_textcat_multilabel",
    assigns=["doc.cats"],
    default_config={"model": Config().from_str(DEFAULT_MODEL)["model"], "threshold": 0.5},
    default_score_weights={},
)
def make_karen_textcat_multilabel(
    nlp: Language, name: str, model: Model[Any, Floats2d], threshold: float
) -> KarenMultiLabelTextCategorizer:
    """Make a `karen_textcat_multilabel` pipe. Labels of at least `threshold` count as predicted."""
    vocab: Vocab = nlp.vocab
    return KarenMultiLabelTextCategorizer(vocab, model, name, threshold=threshold, scorer=None)
