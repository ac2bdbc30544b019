"""An encoder from a local folder in ONNX Runtime: vectors of texts and sub-words.

The packages of the extra `encoder` are imported only when an encoder is opened.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from karen_learner.components.arrays import AnyArray, Floats, Ints
from karen_learner.components.vectors.encoder_folder import EncoderFolder
from karen_learner.errors import EncoderError, EncoderNotInstalled

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
POOLED = "sentence_embedding"
BATCH_SIZE = 32
CHARACTERS_PER_TOKEN = 100
"""Tokenization reads at most this number of characters for each possible token."""
_INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclass(frozen=True)
class Subwords:
    """Sub-words of a text. `spans` (sub-words, 2): start and end character; 0 and 0 for special tokens."""

    ids: list[int]
    types: list[int]
    spans: Ints


@dataclass(frozen=True)
class Encoded:
    """Vectors of a text, of any norm, and of its sub-words; None without sub-word output."""

    sentence: Floats
    subwords: Floats | None


class OnnxEncoder:
    """A tokenizer and a model. Each call computes on one thread; threads may share the encoder.

    A batch has texts of equal length, so that no vector depends on padding.
    """

    def __init__(self, folder: EncoderFolder) -> None:
        """Raises EncoderError for unsuitable files, EncoderNotInstalled without the extra."""
        self.folder = folder
        self._tokenizer = _open_tokenizer(folder.tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(folder.max_tokens)
        self._session = _open_session(folder.model)
        self._inputs = self._known_inputs()
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.pooled_output, self.subword_output, self.width = self._probe()

    def subwords(self, text: str) -> Subwords:
        """Sub-words of the text, at most `max_tokens`."""
        encoding = self._tokenizer.encode(text[: CHARACTERS_PER_TOKEN * self.folder.max_tokens])
        spans = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return Subwords(encoding.ids, encoding.type_ids, spans)

    def encode(self, texts: Sequence[Subwords]) -> list[Encoded]:
        """Vectors of each text, with the pooling of the folder. A text without sub-words has zeros."""
        empty = np.zeros((0, self.width), dtype=np.float32)
        encoded = [Encoded(np.zeros(self.width, dtype=np.float32), empty)] * len(texts)
        for places in _batches_of_equal_length(texts):
            batch = [texts[place] for place in places]
            ids, types = [text.ids for text in batch], [text.types for text in batch]
            for place, result in zip(places, self._encode_batch(ids, types), strict=True):
                encoded[place] = result
        return encoded

    def _encode_batch(self, ids: list[list[int]], types: list[list[int]]) -> Iterator[Encoded]:
        outputs = self._run(ids, types)
        subwords = None if self.subword_output is None else outputs[self.subword_output].astype(np.float32)
        if self.pooled_output is not None:
            sentences = outputs[self.pooled_output].astype(np.float32)
        else:
            sentences = self._pool(subwords)
        return (Encoded(sentences[n], None if subwords is None else subwords[n]) for n in range(len(ids)))

    def _pool(self, subwords: Any) -> Floats:
        """Pooled sub-words. Without padding, the mean is over all of them."""
        pooled: Floats = subwords[:, 0] if self.folder.pooling == "cls" else subwords.mean(axis=1)
        return pooled

    def _run(self, ids: list[list[int]], types: list[list[int]]) -> dict[str, AnyArray]:
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
        feed = {name: np.asarray(values[name], dtype=dtype) for name, dtype in self._inputs.items()}
        try:
            outputs = self._session.run(self._outputs, feed)
        except Exception as error:  # onnxruntime's exceptions have no common base class
            raise EncoderError(
                f"the encoder {self.folder.model} cannot compute {len(ids)} texts of {len(ids[0])} tokens "
                f"({error}). Check that tokenizer.json belongs to this model. If the model accepts fewer "
                f"than {self.folder.max_tokens} tokens, set max_seq_length in sentence_bert_config.json"
            ) from error
        return dict(zip(self._outputs, outputs, strict=True))

    def _known_inputs(self) -> dict[str, Any]:
        inputs = {one.name: _INTEGERS.get(one.type) for one in self._session.get_inputs()}
        unknown = [name for name, dtype in inputs.items() if name not in INPUTS or dtype is None]
        if unknown or "input_ids" not in inputs:
            raise EncoderError(
                f"the encoder {self.folder.model} takes {', '.join(inputs) or 'nothing'}; it must take "
                "input_ids, may take attention_mask and token_type_ids, all integers, and nothing else. "
                "Export the model for feature extraction"
            )
        return inputs

    def _probe(self) -> tuple[str | None, str | None, int]:
        """Text output, sub-word output and width, found with a test run."""
        texts, length = 2, 3
        outputs = self._run([[0] * length] * texts, [[0] * length] * texts)
        numbers = {name: value for name, value in outputs.items() if value.dtype.kind == "f"}
        subword = next(
            (n for n, v in numbers.items() if v.ndim == 3 and v.shape[:2] == (texts, length)), None
        )
        flat = [name for name, value in numbers.items() if value.ndim == 2 and len(value) == texts]
        # With sub-words, a flat output of another name is BERT's pooler, which is no sentence vector.
        pooled = next((name for name in flat if name == POOLED or subword is None), None)
        found = pooled or subword
        if found is None or (subword and numbers[subword].shape[-1] != numbers[found].shape[-1]):
            shapes = ", ".join(f"{name} of shape {value.shape}" for name, value in outputs.items())
            raise EncoderError(
                f"for {texts} texts of {length} tokens the encoder {self.folder.model} returns {shapes}; "
                "it must return floats of shape (texts, tokens, width) or (texts, width). Export the model "
                "for feature extraction"
            )
        return pooled, subword, int(numbers[found].shape[-1])


def _batches_of_equal_length(texts: Sequence[Subwords]) -> Iterator[list[int]]:
    """Positions of texts with sub-words, shortest first."""
    order = sorted((n for n, text in enumerate(texts) if text.ids), key=lambda n: len(texts[n].ids))
    for _, group in groupby(order, key=lambda n: len(texts[n].ids)):
        places = list(group)
        for start in range(0, len(places), BATCH_SIZE):
            yield places[start : start + BATCH_SIZE]


def _open_tokenizer(path: Path) -> Any:
    """The tokenizer of a `tokenizer.json`. Raises EncoderError for other files."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise _not_installed(error) from error
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises the class Exception itself
        raise EncoderError(
            f"{path} is not a tokenizer for the package `tokenizers` ({error}). Export the model again, with "
            "its fast tokenizer"
        ) from error


def _open_session(path: Path) -> Any:
    """An inference session on one thread. Raises EncoderError if the file is no ONNX model."""
    try:
        import onnxruntime
    except ImportError as error:
        raise _not_installed(error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are exceptions anyway
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise EncoderError(
            f"{path} is not an ONNX model that this onnxruntime can run ({error}). Export the model again"
        ) from error


def _not_installed(error: ImportError) -> EncoderNotInstalled:
    return EncoderNotInstalled(
        f"an encoder needs packages that are not installed ({error}). "
        "Install them with: pip install 'karen-learner[encoder]'"
    )
