"""The text categorizer part of `accuracy.py`: clinc150 intents, meld sentiments, shared functions."""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import spacy
from peers import make_linear_svc
from sklearn.metrics import f1_score
from spacy.language import Language
from spacy.training import Example

from karen_learner.components.online.shim import scale_learn_rate
from karen_learner.components.textcat.calibration import expected_calibration_error, out_of_scope_threshold
from karen_learner.components.textcat.pipe import DEFAULT_MODEL, is_out_of_scope
from karen_learner.corpora.importers import iter_labelled, required

Texts = Sequence[tuple[str, str]]
Figures = dict[str, float]
Runs = Iterator[tuple[str, Figures]]
System = Callable[..., tuple[Figures, list[str]]]
"""A function from a data set to the figures and the predictions for `test`.

Our systems also take a `seed` and the number of `passes`."""

OURS = DEFAULT_MODEL
PASSES, FEW_SHOT_PASSES, BATCH = 5, 20, 32
FALSE_ALARM_RATES = (0.05, 0.02)
OUT = "oos"
SHOTS = 10
PENALTIES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
RESAMPLES = 2000
STOCK = {
    "spaCy BOW": (
        {
            "@architectures": "spacy.TextCatBOW.v3",
            "exclusive_classes": True,
            "ngram_size": 1,
            "no_output_layer": False,
        },
        4,
    ),
    "spaCy CNN": (
        {
            "@architectures": "spacy.TextCatReduce.v1",
            "exclusive_classes": True,
            "use_reduce_first": False,
            "use_reduce_last": False,
            "use_reduce_max": True,
            "use_reduce_mean": True,
            "tok2vec": {
                "@architectures": "spacy.HashEmbedCNN.v2",
                "pretrained_vectors": None,
                "width": 96,
                "depth": 1,
                "embed_size": 4000,
                "window_size": 1,
                "maxout_pieces": 3,
                "subword_features": True,
            },
        },
        6,
    ),
}


@dataclass(frozen=True)
class DataSet:
    """Texts with labels. `weighted`: the score is weighted F1 instead of accuracy.

    `test_groups`: texts of `test` with the same number are dependent; empty if all are independent.
    """

    train: Texts
    val: Texts
    test: Texts
    weighted: bool
    out_train: Texts = ()
    out_test: Texts = ()
    test_groups: Sequence[int] = ()

    def score(self, predicted: Sequence[str]) -> float:
        gold = [label for _, label in self.test]
        if self.weighted:
            return float(f1_score(gold, predicted, average="weighted"))
        return float(np.mean([one == other for one, other in zip(gold, predicted, strict=True)]))

    @property
    def measure(self) -> str:
        return "weighted F1" if self.weighted else "accuracy"


@dataclass(frozen=True)
class Systems:
    """The compared systems by name. `ours` run with each seed; the first one is the reference.

    `peers` use no seed.
    """

    ours: Mapping[str, System]
    peers: Mapping[str, System]

    def joined_with(self, other: Systems) -> Systems:
        """The systems of both."""
        return Systems({**self.ours, **other.ours}, {**self.peers, **other.peers})


def clinc150(folder: Path, options: argparse.Namespace, systems: Systems) -> Runs:
    """Accuracy in scope, out-of-scope recall at a threshold from `val`, and ten examples a label."""
    data = DataSet(
        *(read(folder / f"{name}.jsonl", "intent") for name in ("train", "val", "test")),
        weighted=False,
        out_train=read(folder / "oos_train.jsonl", "intent"),
        out_test=read(folder / "oos_test.jsonl", "intent"),
    )
    yield from compare(data, options, systems)
    with_out = DataSet([*data.train, *data.out_train], data.val, data.test, False, (), data.out_test)
    for seed in range(options.seeds):
        yield "ours, oos_train as a label", ours(with_out, seed=seed)[0]
    for seed in range(options.seeds):
        few = DataSet(few_shot(data.train, seed), data.val, data.test, False, (), data.out_test)
        for name, system in systems.ours.items():
            yield f"{name}, {SHOTS} examples a label", system(few, seed=seed, passes=FEW_SHOT_PASSES)[0]
        for name, peer in systems.peers.items():
            yield f"{name}, {SHOTS} examples a label", peer(few)[0]


def meld(folder: Path, options: argparse.Namespace, systems: Systems) -> Runs:
    """Sentiments of dialogue turns. The bootstrap draws whole dialogues: their turns are dependent."""
    data = DataSet(
        *(read(folder / f"{name}.jsonl", "sentiment") for name in ("train", "val", "test")),
        weighted=True,
        test_groups=[int(dialogue) for _, dialogue in read(folder / "test.jsonl", "dialogue")],
    )
    yield from compare(data, options, systems)


def compare(data: DataSet, options: argparse.Namespace, systems: Systems) -> Runs:
    """Our systems with each seed, the peers, and the intervals of the differences."""
    predicted: dict[str, list[str]] = {}
    for name, system in systems.ours.items():
        for seed in range(options.seeds):
            figures, answers = system(data, seed=seed)
            predicted.setdefault(name, answers)
            yield name, figures
    for name, peer in systems.peers.items():
        figures, predicted[name] = peer(data)
        yield name, figures
    base, *more = systems.ours
    pairs = [*itertools.product(systems.ours, systems.peers), *((name, base) for name in more)]
    for name, other in pairs:
        low, high = difference_interval(data, predicted[name], predicted[other])
        yield f"{name} - {other}, 95 % (low)", {data.measure: low}
        yield f"{name} - {other}, 95 % (high)", {data.measure: high}
    for name, (model, passes) in STOCK.items() if options.stock else ():
        yield name, stock(data, model, passes=passes)


def read(path: Path, key: str) -> list[tuple[str, str]]:
    return [(one.text, getattr(one, key)) for one in required(iter_labelled(path))]


def few_shot(texts: Texts, seed: int) -> Texts:
    """SHOTS examples of each label."""
    by_label: dict[str, list[tuple[str, str]]] = {}
    for text, label in texts:
        by_label.setdefault(label, []).append((text, label))
    rng = random.Random(seed)
    return [pair for label in sorted(by_label) for pair in rng.sample(by_label[label], SHOTS)]


def ours(
    data: DataSet, *, seed: int, passes: int = PASSES, model: Mapping[str, Any] = OURS
) -> tuple[Figures, list[str]]:
    """Train with `nlp.update`, calibrate on `val`, save, load, and measure the loaded pipeline."""
    nlp, figures = trained(data, dict(model), passes=passes, seed=seed)
    pipe: Any = nlp.get_pipe("textcat")
    out = OUT if OUT in pipe.labels else None
    before = ece(nlp, data)
    for rate in reversed(FALSE_ALARM_RATES):
        val = [example(nlp, text, label) for text, label in data.val]
        pipe.calibrate(val, false_alarm_rate=rate, out_of_scope_label=out)
        figures |= out_of_scope_rates(loaded(nlp)[0], data, rate)
    nlp, figures["MB"] = loaded(nlp)
    predicted, figures["ms/text"] = predict(nlp, data.test)
    figures |= {data.measure: data.score(predicted), "ECE before": before, "ECE after": ece(nlp, data)}
    return dict(sorted(figures.items(), key=lambda item: item[0] != data.measure)), predicted


def trained(data: DataSet, model: dict[str, Any], *, passes: int, seed: int) -> tuple[Language, Figures]:
    spacy.util.fix_random_seed(seed)
    nlp = spacy.blank("en")
    pipe: Any = nlp.add_pipe("karen_textcat", name="textcat", config={"model": model})
    examples = [example(nlp, text, label) for text, label in data.train]
    pipe.initialize(lambda: examples, nlp=nlp)
    words = passes * sum(len(one.reference) for one in examples)
    started = time.perf_counter()
    learn(nlp, examples, passes=passes, rng=random.Random(seed))
    seconds = time.perf_counter() - started
    return nlp, {"train s": seconds, "words/s": words / seconds}


def learn(nlp: Language, examples: list[Example], *, passes: int, rng: random.Random) -> None:
    """Train with `nlp.update` at a linearly falling learn rate."""
    optimizer = nlp.create_optimizer()
    model: Any = nlp.get_pipe("textcat").model
    steps, done = passes * -(-len(examples) // BATCH), 0
    for _ in range(passes):
        rng.shuffle(examples)
        for start in range(0, len(examples), BATCH):
            scale_learn_rate(model, max(0.05, 1.0 - done / steps))
            nlp.update(examples[start : start + BATCH], sgd=optimizer)
            done += 1


def example(nlp: Language, text: str, label: str) -> Example:
    return Example.from_dict(nlp.make_doc(text), {"cats": {label: 1.0}})


def loaded(nlp: Language) -> tuple[Language, float]:
    """The loaded pipeline, and the megabytes of its serving weights."""
    with tempfile.TemporaryDirectory() as folder:
        nlp.to_disk(folder)
        return spacy.load(folder), (Path(folder) / "textcat" / "model").stat().st_size / 1e6


def predict(nlp: Language, texts: Texts) -> tuple[list[str], float]:
    """The best label of each text, and milliseconds per text."""
    started = time.perf_counter()
    docs = list(nlp.pipe([text for text, _ in texts]))
    milliseconds = (time.perf_counter() - started) / len(texts) * 1e3
    return [max(doc.cats, key=lambda label: doc.cats[label]) for doc in docs], milliseconds


def out_of_scope_rates(nlp: Language, data: DataSet, rate: float) -> Figures:
    """Shares of out-of-scope texts and of texts of `test` that the pipe marks out of scope."""
    if not data.out_test:
        return {}
    shares = [
        float(np.mean([is_out_of_scope(doc, "textcat") for doc in nlp.pipe(text for text, _ in texts)]))
        for texts in (data.out_test, data.test)
    ]
    return {f"oos recall {rate:.0%}": shares[0], f"false alarms {rate:.0%}": shares[1]}


def ece(nlp: Language, data: DataSet) -> float:
    """Expected calibration error on `test`."""
    docs = list(nlp.pipe(text for text, _ in data.test))
    best = [max(doc.cats, key=lambda label: doc.cats[label]) for doc in docs]
    confidence = np.array([doc.cats[label] for doc, label in zip(docs, best, strict=True)])
    right = np.array([label == gold for label, (_, gold) in zip(best, data.test, strict=True)])
    return expected_calibration_error(confidence, right)


def linear_peer(
    data: DataSet, *, make: Callable[[float], Any], penalties: Sequence[float]
) -> tuple[Figures, list[str]]:
    """A linear model of scikit-learn, trained from scratch. `val` selects its `C`."""
    validation = replace(data, test=data.val)
    model, seconds = max(
        (fitted(make(c), data) for c in penalties),
        key=lambda fitted: validation.score(predict_all(fitted[0], data.val)),
    )
    figures = {"train s": seconds, "C": model[-1].C}
    started = time.perf_counter()
    predicted = predict_all(model, data.test)
    figures["ms/text"] = (time.perf_counter() - started) / len(data.test) * 1e3
    figures["MB"] = model[-1].coef_.nbytes / 1e6
    return {data.measure: data.score(predicted), **figures, **peer_out_of_scope_rates(model, data)}, predicted


def fitted(model: Any, data: DataSet) -> tuple[Any, float]:
    """The fitted model, and the seconds of fitting."""
    started = time.perf_counter()
    model.fit([text for text, _ in data.train], [label for _, label in data.train])
    return model, time.perf_counter() - started


def predict_all(model: Any, texts: Texts) -> list[str]:
    labels: list[str] = model.predict([text for text, _ in texts]).tolist()
    return labels


def peer_out_of_scope_rates(model: Any, data: DataSet) -> Figures:
    """Out-of-scope rates by the largest decision value, with the threshold from `val`."""
    if not data.out_test:
        return {}
    val, test, out = (
        model.decision_function([text for text, _ in texts]).max(axis=1)
        for texts in (data.val, data.test, data.out_test)
    )
    figures = {}
    for rate in FALSE_ALARM_RATES:
        threshold = out_of_scope_threshold(val, false_alarm_rate=rate)
        if threshold is None:  # too few validation texts for the rate
            continue
        figures[f"oos recall {rate:.0%}"] = float((out < threshold).mean())
        figures[f"false alarms {rate:.0%}"] = float((test < threshold).mean())
    return figures


def stock(data: DataSet, model: dict[str, Any], *, passes: int) -> Figures:
    """One of spaCy's architectures with Adam at its default rate."""
    nlp, figures = trained(data, model, passes=passes, seed=0)
    predicted, figures["ms/text"] = predict(nlp, data.test)
    figures["MB"] = loaded(nlp)[1]
    return {data.measure: data.score(predicted), **figures}


def difference_interval(data: DataSet, one: Sequence[str], other: Sequence[str]) -> tuple[float, float]:
    """The 95 % interval of the score difference: paired bootstrap over texts or groups of `test`."""
    rng = np.random.default_rng(0)
    gold = np.array([label for _, label in data.test])
    first, second = np.array(one), np.array(other)
    labels = sorted(set(gold))
    numbers = np.array(data.test_groups or range(len(gold)))
    groups = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    differences = [
        score_of(gold[sample], first[sample], labels, data.weighted)
        - score_of(gold[sample], second[sample], labels, data.weighted)
        for sample in (resampled(groups, rng) for _ in range(RESAMPLES))
    ]
    return float(np.quantile(differences, 0.025)), float(np.quantile(differences, 0.975))


def resampled(groups: Sequence[Any], rng: np.random.Generator) -> Any:
    """Positions of a bootstrap sample of groups."""
    return np.concatenate([groups[at] for at in rng.integers(0, len(groups), len(groups))])


def score_of(gold: Any, predicted: Any, labels: Sequence[str], weighted: bool) -> float:
    """Accuracy or weighted F1 without scikit-learn's input checks, for thousands of calls."""
    if not weighted:
        return float((gold == predicted).mean())
    total = 0.0
    for label in labels:
        true, found = gold == label, predicted == label
        f1 = 2 * (true & found).sum() / max(1, true.sum() + found.sum())
        total += f1 * true.mean()
    return float(total)


WITHOUT_ENCODER = Systems(
    ours={"ours": ours},
    peers={"LinearSVC": partial(linear_peer, make=make_linear_svc, penalties=PENALTIES)},
)
