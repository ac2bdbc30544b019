"""Continued training: pipes that are saved, loaded, extended by labels and trained repeatedly."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from karen_learner.components.ner.architecture import chain_of
from karen_learner.components.textcat.architecture import shim_of
from tests.components.tiny_encoder import make_encoder

TOPICS = {
    "tree": ("oak", "birch", "maple"),
    "fish": ("trout", "salmon", "herring"),
    "metal": ("copper", "zinc", "nickel"),
    "dance": ("tango", "waltz", "polka"),
    "spice": ("pepper", "cumin", "saffron"),
    "cloth": ("velvet", "linen", "denim"),
    "vehicle": ("tractor", "bus", "yacht"),
    "planet": ("venus", "jupiter", "uranus"),
    "sport": ("hockey", "judo", "rugby"),
    "tool": ("hammer", "wrench", "saw"),
    "month": ("january", "april", "october"),
    "bird": ("falcon", "ostrich", "heron"),
}
FIRST = ("tree", "fish")
LATER = [topic for topic in TOPICS if topic not in FIRST]
ROUNDS = 2 * len(LATER)
EXCLUSIVE = {"@architectures": "karen_learner.SparseNgrams.v1", "exclusive_classes": True, "table_bits": 14}
CHAIN = {"@architectures": "karen_learner.SparseChain.v1", "table_bits": 14}
KIND_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "textcat": ("karen_textcat", EXCLUSIVE),
    "textcat with eviction": ("karen_textcat", {**EXCLUSIVE, "max_rows": 650}),
    "textcat with vectors": ("karen_textcat", {**EXCLUSIVE, "vectors": "an encoder"}),
    "multilabel": ("karen_textcat_multilabel", {**EXCLUSIVE, "exclusive_classes": False}),
    "ner": ("karen_ner", CHAIN),
    "ner with eviction": ("karen_ner", {**CHAIN, "max_rows": 1000}),
}
"""Pipes with eviction have a small table."""


@dataclass(frozen=True)
class Kind:
    """A kind of pipe, its training examples and its answers."""

    factory: str
    model: dict[str, Any]

    @property
    def language(self) -> str:
        """One kind of pipe has a language without word clusters; the others save those of English."""
        return "xx" if self.factory == "karen_textcat_multilabel" else "en"

    def pipeline(self) -> Language:
        nlp = spacy.blank(self.language)
        pipe = nlp.add_pipe(self.factory, name="pipe", config={"model": self.model})
        pipe.initialize(lambda: self.examples(nlp, FIRST), nlp=nlp, labels=FIRST)
        return nlp

    def examples(self, nlp: Language, topics: Iterable[str]) -> list[Example]:
        known = tuple(topics)
        return [self.example(nlp, thing, topic, known) for topic in known for thing in TOPICS[topic]]

    def example(self, nlp: Language, thing: str, topic: str, known: tuple[str, ...]) -> Example:
        start = "tell me about the "
        if self.factory == "karen_ner":
            truth: dict[str, Any] = {"entities": [(len(start), len(start) + len(thing), topic)]}
        elif self.factory == "karen_textcat":
            truth = {"cats": {topic: 1.0}}
        else:
            truth = {"cats": {label: float(label == topic) for label in known}}
        return Example.from_dict(nlp.make_doc(f"{start}{thing} now"), truth)

    def answer(self, doc: Doc) -> list[str]:
        if self.factory == "karen_ner":
            return [span.label_ for span in doc.ents]
        if self.factory == "karen_textcat":
            return [max(doc.cats, key=doc.cats.__getitem__)]
        return [label for label, score in doc.cats.items() if score > 0.5]

    def accuracy(self, nlp: Language, topics: Iterable[str]) -> float:
        """Share of right answers in texts with untrained words."""
        questions = [(topic, thing) for topic in topics for thing in TOPICS[topic]]
        docs = nlp.pipe(f"please tell me about the {thing}" for _, thing in questions)
        return float(
            np.mean([self.answer(doc) == [topic] for (topic, _), doc in zip(questions, docs, strict=True)])
        )

    def weights(self, nlp: Language) -> dict[str, np.ndarray]:
        """Weights, sums of squares and buckets."""
        model = nlp.get_pipe("pipe").model
        shim: Any = chain_of(model) if self.factory == "karen_ner" else shim_of(model)
        arrays = dict(shim.learning_weights().arrays())
        if "vectors" in self.model:
            arrays["dense"] = shim.dense.weights
        return arrays


@pytest.fixture(params=KIND_OPTIONS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    factory, model = KIND_OPTIONS[request.param]
    if "vectors" in model:
        encoder = make_encoder(tmp_path / "encoder")
        model = {**model, "vectors": {"@misc": "karen_learner.OnnxVectors.v1", "path": str(encoder)}}
    return Kind(factory, model)


def through_disk(nlp: Language, folder: Path) -> Language:
    nlp.to_disk(folder)
    return spacy.load(folder)


def through_bytes(nlp: Language, folder: Path) -> Language:
    return type(nlp).from_config(nlp.config).from_bytes(nlp.to_bytes())


def update(kind: Kind, nlp: Language, topics: Iterable[str], passes: int = 4) -> Language:
    examples = kind.examples(nlp, topics)
    for _ in range(passes):
        nlp.update(examples)
    return nlp


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("labelled", ["before it is saved", "after it is loaded"])
@pytest.mark.parametrize("way", [through_disk, through_bytes])
def test_a_saved_and_loaded_pipe_learns_the_same_weights(
    kind: Kind, way: Callable[[Language, Path], Language], labelled: str, tmp_path: Path
) -> None:
    kept, saved = (update(kind, kind.pipeline(), FIRST) for _ in range(2))
    if labelled == "before it is saved":
        saved.get_pipe("pipe").add_label("metal")
    saved = way(saved, tmp_path / "model")
    for nlp in (kept, saved):
        nlp.get_pipe("pipe").add_label("metal")
        update(kind, nlp, [*FIRST, "metal"])
    assert saved.get_pipe("pipe").labels == kept.get_pipe("pipe").labels
    assert_same(kind.weights(saved), kind.weights(kept))


def test_twenty_rounds_with_a_new_label_in_every_second(kind: Kind, tmp_path: Path) -> None:
    """One pipe is saved and loaded after each round, the other never. Both end with the same weights."""
    kept, saved = (update(kind, kind.pipeline(), FIRST) for _ in range(2))
    known = [*FIRST]
    for number in range(ROUNDS):
        if number % 2 == 0:
            known.append(LATER[number // 2])
            assert [nlp.get_pipe("pipe").add_label(known[-1]) for nlp in (kept, saved)] == [1, 1]
        for nlp in (kept, saved):
            update(kind, nlp, known, passes=4)
        assert_same(kind.weights(saved), kind.weights(kept))
        saved = (through_disk, through_bytes)[number % 3 == 2](saved, tmp_path / "model")
    assert sorted(saved.get_pipe("pipe").labels) == sorted(TOPICS)
    assert kind.accuracy(saved, FIRST) == 1.0
    assert kind.accuracy(saved, TOPICS) >= 0.9
