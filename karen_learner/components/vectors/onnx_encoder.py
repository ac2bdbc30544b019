"""An encoder from a local folder, run by ONNX Runtime: from texts to vectors of texts and of sub-words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.vectors.encoder_folder import EncoderFolder
from karen_learner.components.vectors.encoder_runtime import open_session, open_tokenizer
from karen_learner.errors import EncoderError

Floats = NDArray[np.float32]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
POOLED = "sentence_embedding"
TEXTS_AT_ONCE = 32
CHARACTERS_PER_TOKEN = 100
"""No more of a text is tokenized than so many times the greatest number of tokens."""
_INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclass(frozen=True)
class Subwords:
    """The sub-words that an encoder reads of a text. `spans` (shape (sub-words, 2)): the characters of
    each, from and to; 0 and 0 for special tokens."""

    ids: list[int]
    types: list[int]
    spans: NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """A text's vector, of any length, and those of its sub-words; None if the model gives none of them."""

    sentence: Floats
    subwords: Floats | None


class OnnxEncoder:
    """A tokenizer and a model. One thread computes for each caller; callers may be many.

    Texts of equal length make a batch, so that nothing is padded and no vector depends on how much.
    """

    def __init__(self, folder: EncoderFolder) -> None:
        """Raises EncoderError if the files do not make an encoder, EncoderNotInstalled without the extra."""
        self.folder = folder
        self._tokenizer = self._limited(open_tokenizer(folder.tokenizer))
        self._session = open_session(folder.model)
        self._inputs = self._known_inputs()
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.pooled_output, self.subword_output, self.width = self._probe()

    def subwords(self, text: str) -> Subwords:
        """The sub-words of the text, up to the greatest number of tokens."""
        encoding = self._tokenizer.encode(text[: CHARACTERS_PER_TOKEN * self.folder.max_tokens])
        spans = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return Subwords(encoding.ids, encoding.type_ids, spans)

    def encode(self, texts: Sequence[Subwords]) -> list[Encoded]:
        """What the model makes of each text, as it was pooled. A text without sub-words has zeros."""
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
        """There is no padding, so that the attention mask is all ones and the mean is over all."""
        pooled: Floats = subwords[:, 0] if self.folder.pooling == "cls" else subwords.mean(axis=1)
        return pooled

    def _run(self, ids: list[list[int]], types: list[list[int]]) -> dict[str, NDArray[Any]]:
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
        feed = {name: np.asarray(values[name], dtype=kind) for name, kind in self._inputs.items()}
        try:
            outputs = self._session.run(self._outputs, feed)
        except Exception as error:  # onnxruntime's exceptions have no base of their own
            raise EncoderError(
                f"the encoder {self.folder.model} cannot compute {len(ids)} texts of {len(ids[0])} tokens "
                f"({error}). Does tokenizer.json belong to this model, and does it take "
                f"{self.folder.max_tokens} tokens? sentence_bert_config.json can name fewer (max_seq_length)"
            ) from error
        return dict(zip(self._outputs, outputs, strict=True))

    def _limited(self, tokenizer: Any) -> Any:
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.folder.max_tokens)
        return tokenizer

    def _known_inputs(self) -> dict[str, Any]:
        given = {one.name: _INTEGERS.get(one.type) for one in self._session.get_inputs()}
        strange = [name for name, kind in given.items() if name not in INPUTS or kind is None]
        if strange or "input_ids" not in given:
            raise EncoderError(
                f"the encoder {self.folder.model} takes {', '.join(given) or 'nothing'}; it must take "
                "input_ids, may take attention_mask and token_type_ids, all integers, and nothing else. "
                "Export the model for feature extraction"
            )
        return given

    def _probe(self) -> tuple[str | None, str | None, int]:
        """Which output is the texts' and which the sub-words', and the width; seen by running the model."""
        texts, length = 2, 3
        outputs = self._run([[0] * length] * texts, [[0] * length] * texts)
        numbers = {name: value for name, value in outputs.items() if value.dtype.kind == "f"}
        subword = next(
            (n for n, v in numbers.items() if v.ndim == 3 and v.shape[:2] == (texts, length)), None
        )
        flat = [name for name, value in numbers.items() if value.ndim == 2 and len(value) == texts]
        # Beside sub-words, a flat output of any other name is BERT's pooler: trained for something else.
        pooled = next((name for name in flat if name == POOLED or subword is None), None)
        found = pooled or subword
        if found is None or (subword and numbers[subword].shape[-1] != numbers[found].shape[-1]):
            shapes = ", ".join(f"{name} of shape {value.shape}" for name, value in outputs.items())
            raise EncoderError(
                f"for {texts} texts of {length} tokens the encoder {self.folder.model} gives {shapes}; it "
                "must give floats of shape (texts, tokens, width) or (texts, width). Export the model "
                "for feature extraction"
            )
        return pooled, subword, int(numbers[found].shape[-1])


def _batches_of_equal_length(texts: Sequence[Subwords]) -> Iterator[list[int]]:
    """Positions of texts, shortest first; of those without sub-words none."""
    order = sorted((n for n, text in enumerate(texts) if text.ids), key=lambda n: len(texts[n].ids))
    for _, group in groupby(order, key=lambda n: len(texts[n].ids)):
        places = list(group)
        for start in range(0, len(places), TEXTS_AT_ONCE):
            yield places[start : start + TEXTS_AT_ONCE]
