"""A tiny trained pipeline, built once: two text categorizers and an entity recognizer."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from spacy.training import Example
from spacy.util import fix_random_seed

INTENTS = ("billing", "cancel")
SENTIMENTS = ("negative", "positive")

TEXTS = [
    ("my bill is great", "billing", "positive"),
    ("a lovely bill thanks", "billing", "positive"),
    ("my bill is terrible", "billing", "negative"),
    ("what a horrible bill", "billing", "negative"),
    ("cancel this great plan", "cancel", "positive"),
    ("please cancel lovely people", "cancel", "positive"),
    ("cancel this terrible plan", "cancel", "negative"),
    ("cancel it you horrible people", "cancel", "negative"),
]


def _encoder() -> dict[str, object]:
    return {
        "@architectures": "spacy.HashEmbedCNN.v2",
        "pretrained_vectors": None,
        "width": 16,
        "depth": 1,
        "embed_size": 300,
        "window_size": 1,
        "maxout_pieces": 2,
        "subword_features": False,
    }


def _categorizer() -> dict[str, object]:
    return {
        "@architectures": "spacy.TextCatReduce.v1",
        "tok2vec": _encoder(),
        "exclusive_classes": True,
        "use_reduce_first": False,
        "use_reduce_last": False,
        "use_reduce_max": True,
        "use_reduce_mean": True,
    }


def build_pipeline() -> Language:
    fix_random_seed(0)
    nlp = spacy.blank("en")
    for name, labels, column in (("intent", INTENTS, 1), ("sentiment", SENTIMENTS, 2)):
        pipe = nlp.add_pipe("textcat", name=name, config={"model": _categorizer()})
        examples = [
            Example.from_dict(
                nlp.make_doc(row[0]), {"cats": {label: float(label == row[column]) for label in labels}}
            )
            for row in TEXTS
        ]
        pipe.initialize(lambda examples=examples: examples, nlp=nlp)
        optimizer = nlp.create_optimizer()
        optimizer.learn_rate = 0.02
        for _ in range(30):
            pipe.update(examples, sgd=optimizer)
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "CITY", "pattern": "Boston"}])
    return nlp


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    build_pipeline().to_disk(folder)
    return folder


@pytest.fixture
def nlp(model_folder: Path) -> Language:
    return spacy.load(model_folder)
