"""`karen_learner.OnnxVectors.v1`: cached vectors of an encoder from a local folder.

Reimers, Gurevych: Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks, EMNLP 2019.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from cachetools import LRUCache
from spacy.tokens import Doc

from karen_learner.components.arrays import Floats
from karen_learner.components.vectors.base import SentenceVectors, normalized
from karen_learner.components.vectors.encoder import Encoded, EncoderFolder, OnnxEncoder
from karen_learner.errors import EncoderError


class VectorCache:
    """The `size` most recently used arrays, by digest of a text. Threads may share it.

    `hits` and `misses` count since the start.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.hits = 0
        self.misses = 0
        self._arrays: LRUCache[bytes, Floats] = LRUCache(size)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, keys: Sequence[str], compute: Callable[[list[int]], Sequence[Floats]]) -> list[Floats]:
        """The array of each key; read only. `compute` gets the positions of missing keys, each key once."""
        digests = [
            hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest() for key in keys
        ]
        with self._lock:
            found = {digest: self._arrays[digest] for digest in digests if digest in self._arrays}
            hits = sum(digest in found for digest in digests)
            self.hits += hits
            self.misses += len(digests) - hits
        missing = {digest: place for place, digest in enumerate(digests) if digest not in found}
        if missing:
            computed = dict(zip(missing, compute(list(missing.values())), strict=True))
            found.update(computed)
            if self.size:  # LRUCache refuses a value larger than its size
                with self._lock:
                    self._arrays.update(computed)
        return [found[digest] for digest in digests]


class OnnxVectors:
    """The encoder of a folder with two caches. Threads and copies share it.

    `cache` has the vectors of the last `cache_size` texts, `token_cache` the token vectors of the last
    `token_cache_size` texts. Raises EncoderError if the folder has no usable encoder.
    """

    def __init__(self, path: str | Path, *, cache_size: int = 10_000, token_cache_size: int = 1_000) -> None:
        if cache_size < 0 or token_cache_size < 0:
            raise ValueError("karen_learner.OnnxVectors.v1 needs cache_size >= 0 and token_cache_size >= 0")
        self.encoder = OnnxEncoder(EncoderFolder.read(path))
        self.width = self.encoder.width
        self.cache = VectorCache(cache_size)
        self.token_cache = VectorCache(token_cache_size)

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxVectors":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return onnx_vectors, (str(self.encoder.folder.path), self.cache.size, self.token_cache.size)

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
        keys = [f"{','.join(str(token.idx) for token in doc)} {doc.text}" for doc in docs]
        found = self.token_cache.get(keys, lambda missing: self._token_vectors([docs[n] for n in missing]))
        return [vectors.copy() for vectors in found]

    def _sentences(self, texts: Sequence[str]) -> list[Floats]:
        rows = np.zeros((len(texts), self.width), dtype=np.float32)
        filled = [place for place, text in enumerate(texts) if text.strip()]
        encoded = self.encoder.encode([texts[place] for place in filled])
        for place, one in zip(filled, encoded, strict=True):
            rows[place] = one.sentence
        return [row.copy() for row in normalized(rows)]

    def _token_vectors(self, docs: Sequence[Doc]) -> list[Floats]:
        encoded = self.encoder.encode([doc.text for doc in docs])
        return [_token_means(doc, one) for doc, one in zip(docs, encoded, strict=True)]


def _token_means(doc: Doc, encoded: Encoded) -> Floats:
    """Mean of the sub-words that overlap each token; shape (tokens, width)."""
    starts = np.asarray([token.idx for token in doc], dtype=np.int64)[:, None]
    ends = starts + np.asarray([len(token) for token in doc], dtype=np.int64)[:, None]
    spans = encoded.spans
    blank = np.asarray([token.is_space for token in doc], dtype=bool)[:, None]
    shared = (spans[:, 0] < ends) & (spans[:, 1] > starts) & (spans[:, 1] > spans[:, 0]) & ~blank
    shares = shared / np.maximum(shared.sum(axis=1, keepdims=True), 1)
    return np.asarray(shares.astype(np.float32) @ encoded.subwords, dtype=np.float32)


_open: WeakValueDictionary[tuple[Any, ...], OnnxVectors] = WeakValueDictionary()
_opening = Lock()


def onnx_vectors(path: str, cache_size: int = 10_000, token_cache_size: int = 1_000) -> SentenceVectors:
    """The encoder of a folder: `@misc = "karen_learner.OnnxVectors.v1"`.

    Pipes and pipelines with the same encoder and cache sizes share one instance.
    """
    with _opening:
        key = (EncoderFolder.read(path), cache_size, token_cache_size)
        shared = _open.get(key)
        if shared is None:
            shared = OnnxVectors(path, cache_size=cache_size, token_cache_size=token_cache_size)
            _open[key] = shared
        return shared
