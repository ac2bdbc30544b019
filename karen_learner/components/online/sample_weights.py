"""How much an example counts in training: more than one where it was drawn to stand for others.

The weight lies in the `user_data` of the gold document, so that it comes through `nlp.update` and through a
DocBin that keeps user data. Pipes with models of spaCy's own do not look at it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from spacy.training import Example

Floats = NDArray[np.float32]

MOST = 1e6
"""No example counts more than this."""
_KEY = "karen_learner.weight"


def set_weight(doc: Doc, weight: float) -> None:
    """Let a gold document count as this many (above 0)."""
    doc.user_data[_KEY] = weight


def weight_of(doc: Doc) -> float:
    """What a gold document counts; 1.0 if nothing was said."""
    return float(doc.user_data.get(_KEY, 1.0))


def weights_of(examples: Sequence[Example]) -> Floats | None:
    """The weights, shape (examples,); None if all of them are 1.

    Raises ValueError if one is below 0, above MOST or not a number.
    """
    weights = np.array([weight_of(example.reference) for example in examples])
    if not ((weights >= 0.0) & (weights <= MOST)).all():
        raise ValueError(f"what an example counts must be between 0 and {MOST:g}")
    weights = weights.astype(np.float32)
    return None if (weights == 1.0).all() else weights
