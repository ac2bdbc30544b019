"""Identity check: a model saves the identity of its vectors and refuses other vectors."""

from typing import Any

import srsly
from spacy.tokens import Doc
from thinc.api import Model
from thinc.shims import Shim
from thinc.types import Floats2d

from karen_learner.components.vectors.base import SentenceVectors
from karen_learner.errors import EncoderMismatch


class VectorsShim(Shim):
    """Vectors of a model. It saves only their identity, and compares it on loading."""

    def __init__(self, vectors: SentenceVectors) -> None:
        super().__init__(None)
        self.vectors = vectors

    def __deepcopy__(self, memo: dict[int, Any]) -> "VectorsShim":
        return VectorsShim(self.vectors)

    def finish_update(self, optimizer: Any) -> None:
        """Vectors are not trained."""

    def to_bytes(self) -> bytes:
        """The identity of the vectors."""
        identity: bytes = srsly.json_dumps(self.vectors.identity, sort_keys=True).encode("utf-8")
        return identity

    def from_bytes(self, data: bytes) -> "VectorsShim":
        """Raises EncoderMismatch if the bytes are the identity of other vectors."""
        trained, loaded = srsly.json_loads(data.decode("utf-8")), self.vectors.identity
        if trained["digest"] != loaded["digest"]:
            raise EncoderMismatch(
                f"the model was trained on vectors of {trained['source']} (width {trained['width']}, digest "
                f"{trained['digest'][:12]}), and is loaded with {loaded['source']} (width {loaded['width']}, "
                f"digest {loaded['digest'][:12]}). Set the encoder of the training in the config of the "
                "model, or train it again"
            )
        return self


def vectors_layer(vectors: SentenceVectors) -> Model[list[Doc], Floats2d]:
    """The vectors as a layer for chained architectures. It propagates no gradient."""
    return Model(
        "karen_learner_vectors",
        lambda model, docs, is_train: (model.shims[0].vectors(docs), lambda _: []),  # noqa: ARG005 - thinc's
        shims=[VectorsShim(vectors)],
        dims={"nO": vectors.width},
    )
