"""An encoder from a local folder: its files, and vectors of texts and sub-words from ONNX Runtime.

The layout is that of sentence-transformers with an ONNX export: `tokenizer.json`, `onnx/model.onnx` or
`model.onnx`; optionally `1_Pooling/config.json` and `sentence_bert_config.json`. The packages of the extra
`encoder` are imported only when an encoder is opened.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from karen_learner.components.arrays import AnyArray, Floats, Ints
from karen_learner.errors import EncoderError, EncoderNotInstalled

MODEL_FILES = ("onnx/model.onnx", "model.onnx")
TOKENIZER_FILE = "tokenizer.json"
POOLING_FILE = "1_Pooling/config.json"
LENGTH_FILE = "sentence_bert_config.json"
DEFAULT_MAX_TOKENS = 256
MIN_TOKENS = 3
POOLINGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
POOLED = "sentence_embedding"
TEXTS_PER_PART, BATCH_SIZE = 256, 32
"""Number of texts that are tokenized at a time. Batches then have enough texts of equal length."""
CHARACTERS_PER_TOKEN = 100
"""Tokenization reads at most this number of characters for each possible token."""
_INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclass(frozen=True)
class EncoderFolder:
    """Contents of a folder. `pooling` is "mean" or "cls"; `max_tokens` includes special tokens."""

    path: Path
    model: Path
    tokenizer: Path
    pooling: str
    max_tokens: int
    digest: str

    @classmethod
    def read(cls, path: str | Path) -> "EncoderFolder":
        """Raises EncoderError if the folder or a file of the encoder is missing."""
        folder = Path(path).expanduser().absolute()
        if not folder.is_dir():
            raise EncoderError(
                f"there is no folder {folder} to load an encoder from. Create it, or set `path` of "
                "karen_learner.OnnxVectors.v1 to the folder of the encoder"
            )
        model = _first_file(folder, MODEL_FILES, "the ONNX model")
        tokenizer = _first_file(folder, (TOKENIZER_FILE,), "the tokenizer")
        pooling, max_tokens = _pooling(folder / POOLING_FILE), _max_tokens(folder)
        return cls(folder, model, tokenizer, pooling, max_tokens, _digest(folder, model))


def _first_file(folder: Path, names: tuple[str, ...], part: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise EncoderError(
        f"the encoder's folder {folder} lacks {part}: there is no {' and no '.join(names)}. Download the "
        "whole repository of the model, or export it with `optimum-cli export onnx`"
    )


def _pooling(path: Path) -> str:
    config = _json(path)
    if not config:
        return "mean"
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if isinstance(config.get("pooling_mode"), str):
        chosen = [f"pooling_mode_{config['pooling_mode']}"]
    aliases = {**POOLINGS, "pooling_mode_cls": "cls", "pooling_mode_mean": "mean"}
    if len(chosen) != 1 or chosen[0] not in aliases:
        raise EncoderError(
            f"{path} requires {' with '.join(chosen) or 'no pooling'}; supported is one of "
            f"{' or '.join(POOLINGS)}. Use another encoder, or an export with pooled output"
        )
    return aliases[chosen[0]]


def _max_tokens(folder: Path) -> int:
    path = folder / LENGTH_FILE
    value = _json(path).get("max_seq_length")
    if value is None:
        path = folder / TOKENIZER_FILE
        value = (_json(path).get("truncation") or {}).get("max_length", DEFAULT_MAX_TOKENS)
    if not isinstance(value, int) or value < MIN_TOKENS:
        raise EncoderError(f"{path} has {value!r} as the maximum number of tokens. It must be 3 or more")
    return value


def _json(path: Path) -> dict[str, Any]:
    """The JSON object of the file; empty without a file."""
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EncoderError(f"{path} is not JSON ({error}). Download it again") from error
    if not isinstance(read, dict):
        raise EncoderError(f"{path} holds no JSON object. Download it again")
    return read


def _digest(folder: Path, model: Path) -> str:
    """Digest of the files that determine the vectors. External weights have the name of the model as
    prefix."""
    weights = sorted(file for file in model.parent.glob(f"{model.name}*") if file.is_file())
    others = [folder / name for name in (TOKENIZER_FILE, POOLING_FILE, LENGTH_FILE)]
    total = hashlib.sha256()
    for file in [*weights, *(file for file in others if file.is_file())]:
        total.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                total.update(block)
    return total.hexdigest()


@dataclass(frozen=True)
class Encoded:
    """Vectors of a text, of any norm, and of its sub-words; None without sub-word output.

    `spans` (sub-words, 2): start and end character of each sub-word; 0 and 0 for special tokens.
    """

    sentence: Floats
    subwords: Floats | None
    spans: Ints


class OnnxEncoder:
    """A tokenizer and a model. Each call computes on one thread; threads may share the encoder.

    A batch has texts of equal length, so that no vector depends on padding.
    """

    def __init__(self, folder: EncoderFolder) -> None:
        """Raises EncoderError for unsuitable files, EncoderNotInstalled without the extra."""
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise EncoderNotInstalled(
                f"an encoder needs packages that are not installed ({error}). "
                "Install them with: pip install 'karen-learner[encoder]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are exceptions anyway
        self.folder = folder
        self._tokenizer = _opened(
            folder.tokenizer,
            Tokenizer.from_file,
            "a tokenizer for the package `tokenizers`",
            "Export the model again, with its fast tokenizer",
        )
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(folder.max_tokens)
        self._session = _opened(
            folder.model,
            lambda path: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]),
            "an ONNX model that this onnxruntime can run",
            "Export the model again",
        )
        self._inputs = self._known_inputs()
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.pooled_output, self.subword_output, self.width = self._probe()

    def encode(self, texts: Sequence[str]) -> Iterator[Encoded]:
        """Vectors of each text and of its first `max_tokens` sub-words, with the pooling of the folder."""
        length = CHARACTERS_PER_TOKEN * self.folder.max_tokens
        for start in range(0, len(texts), TEXTS_PER_PART):
            part = texts[start : start + TEXTS_PER_PART]
            yield from self._encode_part([self._tokenizer.encode(text[:length]) for text in part])

    def _encode_part(self, texts: list[Any]) -> list[Encoded]:
        """Vectors of tokenized texts. A text without sub-words has zeros."""
        zeros = np.zeros((1, self.width), dtype=np.float32)
        encoded = [Encoded(zeros[0], zeros[:0], np.zeros((0, 2), dtype=np.int64))] * len(texts)
        for places in _batches_of_equal_length(texts):
            batch = [texts[place] for place in places]
            outputs = self._run([text.ids for text in batch], [text.type_ids for text in batch])
            subwords = (
                None if self.subword_output is None else outputs[self.subword_output].astype(np.float32)
            )
            pooled = self.pooled_output
            sentences = self._pool(subwords) if pooled is None else outputs[pooled].astype(np.float32)
            for n, (place, text) in enumerate(zip(places, batch, strict=True)):
                vectors = None if subwords is None else subwords[n]
                encoded[place] = Encoded(sentences[n], vectors, np.asarray(text.offsets, dtype=np.int64))
        return encoded

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


def _batches_of_equal_length(texts: Sequence[Any]) -> Iterator[list[int]]:
    """Positions of texts with sub-words, shortest first."""
    order = sorted((n for n, text in enumerate(texts) if len(text)), key=lambda n: len(texts[n]))
    for _, group in groupby(order, key=lambda n: len(texts[n])):
        places = list(group)
        for start in range(0, len(places), BATCH_SIZE):
            yield places[start : start + BATCH_SIZE]


def _opened(path: Path, load: Callable[[str], Any], kind: str, advice: str) -> Any:
    """The loaded file. Raises EncoderError if it is not of this kind."""
    try:
        return load(str(path))
    except Exception as error:  # the exceptions of both packages have no common base class
        raise EncoderError(f"{path} is not {kind} ({error}). {advice}") from error
