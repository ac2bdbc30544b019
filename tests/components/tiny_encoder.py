"""A tiny encoder in the usual layout: an embedding table as an ONNX model, and a word-piece tokenizer."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("hello", "there", "my", "friend", "good", "morning", "one", "pizza", "please", "want", "to", "order")
PIECES = ("play", "##ing", "##s", "do", "##n", "n", "t", "'", "!", ",", "🍕", "bye", "see", "you", "later")
VOCABULARY = {word: number for number, word in enumerate((*SPECIAL, *WORDS, *PIECES))}
WIDTH = 8
CLS, SEP, UNK = VOCABULARY["[CLS]"], VOCABULARY["[SEP]"], VOCABULARY["[UNK]"]


def table(seed: int = 0) -> np.ndarray:
    """The embeddings, shape (vocabulary, width)."""
    return np.random.default_rng(seed).normal(size=(len(VOCABULARY), WIDTH)).astype(np.float32)


def ids(*words: str) -> list[int]:
    return [CLS, *(VOCABULARY[word] for word in words), SEP]


def make_encoder(
    folder: Path,
    *,
    seed: int = 0,
    model_file: str = "onnx/model.onnx",
    inputs: tuple[str, ...] = ("input_ids", "attention_mask", "token_type_ids"),
    outputs: tuple[str, ...] = ("last_hidden_state",),
    kind: int = TensorProto.INT64,
    max_tokens: int | None = 16,
    pooling: str | None = None,
) -> Path:
    """Write an encoder whose sub-words are rows of `table(seed)`. Its pooled output is their maximum."""
    write_tokenizer(folder)
    model = folder / model_file
    model.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(_model(table(seed), inputs, outputs, kind), str(model))
    if max_tokens is not None:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}))
    if pooling is not None:
        modes = {
            f"pooling_mode_{mode}": mode == pooling for mode in ("cls_token", "mean_tokens", "max_tokens")
        }
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    return folder


def write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    tokenizer.enable_padding(length=32)  # common in folders; must be ignored
    tokenizer.save(str(folder / "tokenizer.json"))


def _model(
    embeddings: np.ndarray, inputs: tuple[str, ...], outputs: tuple[str, ...], kind: int
) -> onnx.ModelProto:
    nodes = {
        "last_hidden_state": [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "pooler_output": [helper.make_node("ReduceMin", ["rows", "one"], ["pooler_output"], keepdims=0)],
        "sentence_embedding": [
            helper.make_node("ReduceMax", ["rows", "one"], ["sentence_embedding"], keepdims=0)
        ],
        "lengths": [helper.make_node("Shape", ["input_ids"], ["lengths"])],
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            *(node for output in outputs for node in nodes[output]),
        ],
        "tiny",
        [helper.make_tensor_value_info(name, kind, ["texts", "tokens"]) for name in inputs],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [
            numpy_helper.from_array(embeddings, "table"),
            numpy_helper.from_array(np.asarray([1], dtype=np.int64), "one"),
        ],
    )
    for value in graph.output:
        whole = value.name == "lengths"
        value.type.tensor_type.elem_type = TensorProto.INT64 if whole else TensorProto.FLOAT
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
