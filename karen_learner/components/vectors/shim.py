"""A model remembers which vectors it was trained on, and refuses others."""

from typing import Any

import srsly
from spacy.tokens import Doc
from thinc.api import Model
from thinc.shims import Shim
from thinc.types import Floats2d

from karen_learner.components.vectors.base import SentenceVectors
from karen_learner.errors import EncoderMismatch


class VectorsShim(Shim):
    """Holds the vectors, saves their identity alone, and compares it when it is loaded."""

    def __init__(self, vectors: SentenceVectors) -> None:
        super().__init__(None)
        self.vectors = vectors

    def __deepcopy__(self, memo: dict[int, Any]) -> "VectorsShim":
        return VectorsShim(self.vectors)

    def finish_update(self, optimizer: Any) -> None:
        """Vectors do not learn."""

    def to_bytes(self) -> bytes:
        """The identity of the vectors; none of their weights."""
        identity: bytes = srsly.json_dumps(self.vectors.identity, sort_keys=True).encode("utf-8")
        return identity

    def from_bytes(self, data: bytes) -> "VectorsShim":
        """Raises EncoderMismatch if the bytes are the identity of other vectors."""
        learned, here = srsly.json_loads(data.decode("utf-8")), self.vectors.identity
        if learned["digest"] != here["digest"]:
            raise EncoderMismatch(
                f"the model was trained on vectors of {learned['source']} (width {learned['width']}, digest "
                f"{learned['digest'][:12]}), and is loaded beside {here['source']} (width {here['width']}, "
                f"digest {here['digest'][:12]}). Name the encoder that it was trained on in its config, or "
                "train it anew"
            )
        return self


def vectors_layer(vectors: SentenceVectors) -> Model[list[Doc], Floats2d]:
    """The vectors as a layer, for architectures that are chained together. It passes no gradient on."""
    return Model(
        "karen_learner_vectors",
        lambda model, docs, is_train: (model.shims[0].vectors(docs), lambda _: []),  # noqa: ARG005 - thinc's
        shims=[VectorsShim(vectors)],
        dims={"nO": vectors.width},
    )
