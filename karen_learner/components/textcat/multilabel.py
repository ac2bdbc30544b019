"""`karen_textcat_multilabel`: a text categorizer with labels that do not exclude each other.

A category of 1.0 is true, of 0.0 false; a missing category is unknown. Like `karen_textcat`, the pipe uses
only its own labels and names its scores after itself.
"""

from collections.abc import Callable
from typing import Any

from spacy.language import Language
from spacy.vocab import Vocab
from thinc.api import Model
from thinc.types import Floats2d

from karen_learner.components.textcat.pipe import SCORE_WEIGHTS, BaseTextCategorizer

DEFAULT_MODEL = {"@architectures": "karen_learner.SparseNgrams.v1", "exclusive_classes": False}


class KarenMultiLabelTextCategorizer(BaseTextCategorizer):
    """A text categorizer with labels that do not exclude each other."""

    exclusive = False

    def __init__(self, vocab: Vocab, model: Model[Any, Floats2d], name: str, **options: Any) -> None:
        super().__init__(vocab, model, name, **options)
        del self.cfg["positive_label"]  # an option of exclusive labels only


@Language.factory(
    "karen_textcat_multilabel",
    assigns=["doc.cats"],
    default_config={
        "model": DEFAULT_MODEL,
        "threshold": 0.5,
        "scorer": {"@scorers": "spacy.textcat_multilabel_scorer.v2"},
    },
    default_score_weights=SCORE_WEIGHTS,
)
def make_karen_textcat_multilabel(
    nlp: Language,
    name: str,
    model: Model[Any, Floats2d],
    threshold: float,
    scorer: Callable[..., dict[str, Any]] | None,
) -> KarenMultiLabelTextCategorizer:
    """Make a `karen_textcat_multilabel` pipe. Labels of at least `threshold` count as predicted."""
    return KarenMultiLabelTextCategorizer(nlp.vocab, model, name, threshold=threshold, scorer=scorer)
