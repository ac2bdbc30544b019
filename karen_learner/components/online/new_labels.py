"""Trainable biases for labels that are added to spaCy's text classifiers.

spaCy gives a new label a bias of -5000, so that it is never predicted untrained. Adam moves a weight by about
its learn rate a step: at 0.001 such a bias needs millions of updates. Here it starts just below the lowest
other bias.
"""

from typing import Any

from thinc.api import Model

LOWEST_TRAINABLE_BIAS = -1000.0


def make_new_labels_learnable(model: Model[Any, Any]) -> int:
    """Raise biases at or below LOWEST_TRAINABLE_BIAS; returns the number of such labels."""
    layer = model.maybe_get_ref("output_layer")
    if layer is None or not layer.has_param("b"):
        return 0
    bias: Any = layer.get_param("b").copy()
    too_low = bias <= LOWEST_TRAINABLE_BIAS
    if not too_low.any() or too_low.all():
        return 0
    bias[too_low] = bias[~too_low].min() - 1.0
    layer.set_param("b", bias)
    return int(too_low.sum())
