"""`karen_learner.OnnxVectors.v1`: cached vectors of an encoder from a local folder.

Reimers, Gurevych: Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks, EMNLP 2019.
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from spacy.tokens import Doc

from karen_learner.components.arrays import Floats
from karen_learner.components.vectors.base import SentenceVectors, normalized
from karen_learner.components.vectors.cache import VectorCache
from karen_learner.components.vectors.encoder_folder import EncoderFolder
from karen_learner.components.vectors.onnx_encoder import OnnxEncoder, Subwords
from karen_learner.errors import EncoderError

TEXTS_PER_PART = 256
"""Number of texts that are tokenized before encoding. Batches then have enough texts of equal length."""


class OnnxVectors:
    """The encoder of a folder with two caches. Threads and copies share it.

    `cache` has the vectors of the last `cache_size` texts, `token_cache` the token vectors of the last
    `token_cache_size` texts. Raises EncoderError if the folder has no usable encoder.
    """

    def __init__(self, path: str | Path, *, cache_size: int = 10_000, token_cache_size: int = 1_000) -> None:
        if cache_size < 0 or token_cache_size < 0:
            raise ValueError("karen_learner.OnnxVectors.v1 needs cache_size >= 0 and token_cache_size >= 0")
        self.encoder = OnnxEncoder(EncoderFolder.read(path))
        self.cache = VectorCache(cache_size)
        self.token_cache = VectorCache(token_cache_size)

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxVectors":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return onnx_vectors, (str(self.encoder.folder.path), self.cache.size, self.token_cache.size)

    @property
    def width(self) -> int:
        return self.encoder.width

    @property
    def identity(self) -> dict[str, Any]:
        folder = self.encoder.folder
        return {"source": str(folder.path), "digest": folder.digest, "width": self.width}

    def __call__(self, docs: Sequence[Doc]) -> Floats:
        """Vectors of norm 1; zeros for blank documents."""
        texts = [doc.text for doc in docs]
        rows = self.cache.get(texts, lambda missing: self._sentences([texts[n] for n in missing]))
        return np.stack(rows) if rows else np.zeros((0, self.width), dtype=np.float32)

    def tokens(self, docs: Sequence[Doc]) -> list[Floats]:
        """Means of the sub-words that overlap each token; zeros for white space and truncated tokens.

        Raises EncoderError if the model has no sub-word output.
        """
        if self.encoder.subword_output is None:
            raise EncoderError(
                f"the encoder {self.encoder.folder.model} returns only vectors of whole texts, and token "
                "vectors are needed. Use an export with last_hidden_state"
            )
        keys = [f"{_boundaries(doc)} {doc.text}" for doc in docs]
        found = self.token_cache.get(keys, lambda missing: self._token_vectors([docs[n] for n in missing]))
        return [vectors.copy() for vectors in found]

    def _sentences(self, texts: Sequence[str]) -> list[Floats]:
        rows = np.zeros((len(texts), self.width), dtype=np.float32)
        filled = [place for place, text in enumerate(texts) if text.strip()]
        for start in range(0, len(filled), TEXTS_PER_PART):
            places = filled[start : start + TEXTS_PER_PART]
            encoded = self.encoder.encode([self.encoder.subwords(texts[place]) for place in places])
            rows[places] = np.stack([one.sentence for one in encoded])
        return [row.copy() for row in normalized(rows)]

    def _token_vectors(self, docs: Sequence[Doc]) -> list[Floats]:
        vectors = []
        for start in range(0, len(docs), TEXTS_PER_PART):
            part = docs[start : start + TEXTS_PER_PART]
            subwords = [self.encoder.subwords(doc.text) for doc in part]
            for doc, words, encoded in zip(part, subwords, self.encoder.encode(subwords), strict=True):
                vectors.append(_means(doc, words, encoded.subwords))
        return vectors


def _boundaries(doc: Doc) -> str:
    return ",".join(str(token.idx) for token in doc)


def _means(doc: Doc, subwords: Subwords, vectors: Any) -> Floats:
    """Mean of the sub-words that overlap each token; shape (tokens, width)."""
    starts = np.asarray([token.idx for token in doc], dtype=np.int64)[:, None]
    ends = starts + np.asarray([len(token) for token in doc], dtype=np.int64)[:, None]
    spans = subwords.spans
    blank = np.asarray([token.is_space for token in doc], dtype=bool)[:, None]
    shared = (spans[:, 0] < ends) & (spans[:, 1] > starts) & (spans[:, 1] > spans[:, 0]) & ~blank
    shares = shared / np.maximum(shared.sum(axis=1, keepdims=True), 1)
    means: Floats = shares.astype(np.float32) @ vectors
    return means


_open: WeakValueDictionary[tuple[Any, ...], OnnxVectors] = WeakValueDictionary()
_opening = Lock()


def onnx_vectors(path: str, cache_size: int = 10_000, token_cache_size: int = 1_000) -> SentenceVectors:
    """The encoder of a folder: `@misc = "karen_learner.OnnxVectors.v1"`.

    Pipes and pipelines with the same encoder and cache sizes share one instance.
    """
    with _opening:
        folder = EncoderFolder.read(path)
        key = (folder, cache_size, token_cache_size)
        shared = _open.get(key)
        if shared is None:
            shared = OnnxVectors(path, cache_size=cache_size, token_cache_size=token_cache_size)
            _open[key] = shared
        return shared
