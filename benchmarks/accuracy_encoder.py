"""The encoder part of `accuracy.py`: our pipe with sentence vectors, and a classifier on the same vectors.

The peer is a logistic regression on the frozen vectors, trained from scratch. A run encodes each text once,
for the first system that needs it. Times are therefore omitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import spacy
from accuracy_text import OURS, DataSet, Figures, System, Systems, linear_peer, ours
from numpy.typing import NDArray
from peers import make_logistic_regression

from karen_learner.components.vectors.onnx import onnx_vectors

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
CACHED_TEXTS = 50_000
TIMED = ("train s", "words/s", "ms/text")


def with_encoder(folder: Path) -> Systems:
    """The systems that need the encoder of a folder."""
    vectors = {"@misc": "karen_learner.OnnxVectors.v1", "path": str(folder), "cache_size": CACHED_TEXTS}
    make = partial(make_logistic_regression, encode=encoder_of(folder))
    return Systems(
        ours={"ours, with the encoder": untimed(partial(ours, model={**OURS, "vectors": vectors}))},
        peers={"encoder, logistic regression": untimed(partial(linear_peer, make=make, penalties=PENALTIES))},
    )


def untimed(system: System) -> System:
    """The same figures without times."""

    def measure(data: DataSet, **options: Any) -> tuple[Figures, list[str]]:
        figures, predicted = system(data, **options)
        return {name: value for name, value in figures.items() if name not in TIMED}, predicted

    return measure


def encoder_of(folder: Path) -> Callable[[Sequence[str]], NDArray[Any]]:
    """A function from texts to their vectors, shape (texts, width)."""
    nlp, vectors = spacy.blank("en"), onnx_vectors(str(folder), CACHED_TEXTS)
    return lambda texts: vectors([nlp.make_doc(text) for text in texts])
