"""New labels that can be learned.

spaCy's text classifiers give a label that is added later a bias of -5000, so that it is never predicted
untrained. Adam moves a weight by about its learn rate a step: at 0.001 such a label needs millions of
updates before it is ever seen. Here it starts just below the least likely label that is known.
"""

from typing import Any

from thinc.api import Model

UNLEARNABLE = -1000.0


def make_new_labels_learnable(model: Model[Any, Any]) -> int:
    """Lift the biases that no optimizer can lift; returns how many labels that concerned."""
    layer = model.maybe_get_ref("output_layer")
    if layer is None or not layer.has_param("b"):
        return 0
    bias: Any = layer.get_param("b").copy()
    hopeless = bias <= UNLEARNABLE
    if not hopeless.any() or hopeless.all():
        return 0
    bias[hopeless] = bias[~hopeless].min() - 1.0
    layer.set_param("b", bias)
    return int(hopeless.sum())
