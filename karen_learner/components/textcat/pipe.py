"""`karen_textcat`: spaCy's exclusive text categorizer, made for sharing a corpus and for learning on.

What it does otherwise than `textcat`:

- It sees only its own labels. Two of them (intent and sentiment, say) can learn from one corpus whose
  documents have a category of each; the stock pipe refuses such a document (E895).
- A document without any of its labels is unknown, not negative: training and scoring leave it out.
- Its scores are named after the pipe (`intent_acc`, `intent_macro_f`), not `cats_*`.
- A label that is added later can be learned (see `new_labels`).
- `calibrate` makes its scores probabilities, and tells which texts are out of scope.
- Truth and annotations are written label by label only where there is one, so that 150 labels do not
  cost 150 Python steps for each text.

Any registered text-classification architecture fits inside (`TextCatReduce`, `TextCatBOW`, ...). Weights
move in `finish_update` alone, as spaCy wants it: `update(sgd=None)` moves nothing.
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
exclusive_classes = true
"""


class KarenTextCategorizer(BaseTextCategorizer):
    """An exclusive text categorizer that knows which labels are its own."""

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,  # noqa: ARG002 - spaCy's interface
        labels: Iterable[str] | None = None,
        positive_label: str | None = None,
    ) -> None:
        """Set the labels (by default every category of the examples) and make new weights.

        Give `labels` where the corpus holds the categories of other pipes too. `positive_label` is taken, as
        spaCy's text categorizer does, and heeded by nothing.
        """
        validate_get_examples(get_examples, "KarenTextCategorizer.initialize")
        self.cfg.pop("calibration", None)
        for label in self._categories_of(get_examples()) if labels is None else labels:
            self.add_label(label)
        if len(self.cfg["labels"]) < 2:
            raise ValueError(Errors.E867)
        self.cfg["positive_label"] = positive_label
        sample = list(islice(filter(self._is_known, get_examples()), 10))
        if not sample:
            raise ValueError(Errors.E923.format(name=self.name))
        truths, _ = self._examples_to_truth(sample)
        self.model.initialize(X=[example.reference for example in sample], Y=truths)

    def score(self, examples: Iterable[Example], **_: Any) -> dict[str, Any]:
        """Accuracy, macro and micro scores of the examples with a known label, as `<pipe name>_*`."""
        known = [example for example in examples if self._is_known(example)]
        if not known:
            return {}
        scores = Scorer.score_cats(known, "cats", labels=self.labels, multi_label=False)
        named = {key.replace("cats", self.name, 1): value for key, value in scores.items()}
        return {f"{self.name}_acc": self._accuracy(known), **named}

    def _accuracy(self, known: Sequence[Example]) -> float:
        own = self.labels
        right = 0
        for example in known:
            predicted = example.predicted.cats
            best = max(own, key=lambda label: predicted.get(label, 0.0))
            right += example.reference.cats.get(best, 0.0) == 1.0
        return right / len(known)

    def _is_known(self, example: Example) -> bool:
        own = self._label_index()
        return any(label in own and value == 1.0 for label, value in example.reference.cats.items())

    def _docs_to_truth(self, docs: Sequence[Doc]) -> tuple[Floats, Floats]:
        index = self._label_index()
        truths = np.zeros((len(docs), len(index)), dtype=np.float32)
        for row, doc in enumerate(docs):
            for label, value in doc.cats.items():
                if label in index:
                    truths[row, index[label]] = value
        return truths, np.ones_like(truths)

    def _validate_categories(self, examples: Iterable[Example]) -> None:
        """At most one of this pipe's own labels may be true, and values are 0.0 or 1.0."""
        own = self._label_index()
        for example in examples:
            cats = example.reference.cats
            values = [value for label, value in cats.items() if label in own]
            if values.count(1.0) > 1:
                raise ValueError(Errors.E895.format(value=cats))
            for value in values:
                if value not in (0.0, 1.0):
                    raise ValueError(Errors.E851.format(val=value))


@Language.factory(
    "karen_textcat",
    assigns=["doc.cats"],
    default_config={"model": Config().from_str(DEFAULT_MODEL)["model"], "threshold": 0.0},
    default_score_weights={},
)
def make_karen_textcat(
    nlp: Language, name: str, model: Model[list[Doc], Floats2d], threshold: float
) -> KarenTextCategorizer:
    """Make a `karen_textcat` pipe. `threshold` is kept for spaCy's interface and is not used."""
    vocab: Vocab = nlp.vocab
    return KarenTextCategorizer(vocab, model, name, threshold=threshold, scorer=None)
