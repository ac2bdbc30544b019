"""Files, pooling and digest of an encoder folder.

The layout is that of sentence-transformers with an ONNX export: `tokenizer.json`, `onnx/model.onnx` or
`model.onnx`; optionally `1_Pooling/config.json` and `sentence_bert_config.json`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karen_learner.errors import EncoderError

MODEL_FILES = ("onnx/model.onnx", "model.onnx")
TOKENIZER_FILE = "tokenizer.json"
POOLING_FILE = "1_Pooling/config.json"
LENGTH_FILE = "sentence_bert_config.json"
DEFAULT_MAX_TOKENS = 256
MIN_TOKENS = 3
POOLINGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}


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
