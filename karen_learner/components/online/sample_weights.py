"""Sample weights of training examples.

The weight is in the `user_data` of the reference document, so `nlp.update` and a DocBin with user data keep
it. Pipes with models of spaCy ignore it.
"""

from collections.abc import Sequence

import numpy as np
from spacy.tokens import Doc
from spacy.training import Example

from karen_learner.components.arrays import Floats

MAX_SAMPLE_WEIGHT = 1e6
_KEY = "karen_learner.weight"


def set_sample_weight(doc: Doc, weight: float) -> None:
    """Set the sample weight (above 0) of a reference document."""
    doc.user_data[_KEY] = weight


def sample_weight(doc: Doc) -> float:
    """Sample weight of a reference document; 1.0 by default."""
    return float(doc.user_data.get(_KEY, 1.0))


def sample_weights(examples: Sequence[Example]) -> Floats | None:
    """Sample weights, shape (examples,); None if all are 1.

    Raises ValueError if one is negative, above MAX_SAMPLE_WEIGHT or not a number.
    """
    weights = np.array([sample_weight(example.reference) for example in examples])
    if not ((weights >= 0.0) & (weights <= MAX_SAMPLE_WEIGHT)).all():
        raise ValueError(f"a sample weight must be between 0 and {MAX_SAMPLE_WEIGHT:g}")
    weights = weights.astype(np.float32)
    return None if (weights == 1.0).all() else weights
