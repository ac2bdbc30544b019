"""The entity part of `accuracy.py`: snips, compared with spaCy's own `ner`.

A gold span that does not match token boundaries counts as missed.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.training import Example

from karen_learner.components.online.shim import scale_learn_rate
from karen_learner.corpora.importers import iter_labelled, required

JsonLine = dict[str, Any]
Figures = dict[str, float]
LAST_RATE = 0.05
BATCH = 32


def snips(folder: Path, options: argparse.Namespace, _: object) -> Iterator[tuple[str, Figures]]:
    """Our recognizer with each seed; `--stock` adds spaCy's, once."""
    train, test = read(folder / "train.jsonl"), read(folder / "test.jsonl")
    for seed in range(options.seeds):
        yield "karen_ner", ours(train, test, seed)
    if options.stock:
        yield "spaCy ner (10 passes)", stock(train, test)


def read(path: Path) -> list[JsonLine]:
    return [
        {"text": one.text, "entities": [(span.start, span.end, span.label) for span in one.entities or ()]}
        for one in required(iter_labelled(path))
    ]


def ours(train: list[JsonLine], test: list[JsonLine], seed: int) -> Figures:
    """Train with `nlp.update`, save, load, and measure the loaded pipeline."""
    nlp = spacy.blank("en")
    nlp.add_pipe("karen_ner", name="ner")
    return measured(nlp, train, test, passes=5, seed=seed)


def stock(train: list[JsonLine], test: list[JsonLine]) -> Figures:
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    return measured(nlp, train, test, passes=10, seed=0)


def measured(
    nlp: Language, train: list[JsonLine], test: list[JsonLine], *, passes: int, seed: int
) -> Figures:
    spacy.util.fix_random_seed(seed)
    examples = [example(nlp, line) for line in train]
    started = time.perf_counter(), time.process_time()
    optimizer = nlp.initialize(lambda: examples)
    learn(nlp, examples, optimizer, passes=passes, rng=random.Random(seed))
    seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    words = passes * sum(len(one.reference) for one in examples)
    figures = {"train s": seconds, "train CPU s": cpu, "words/s": words / seconds}
    with tempfile.TemporaryDirectory() as folder:
        nlp.to_disk(folder)
        figures["MB served"] = size(Path(folder) / "ner" / "model")
        figures["MB state"] = size(Path(folder) / "ner" / "state" / "weights")
        served = spacy.load(folder)
    f1, milliseconds = evaluated(served, test)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"F1": f1, **figures, "ms/text": milliseconds, "peak RSS MB": peak}


def example(nlp: Language, line: JsonLine) -> Example:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # spans that do not fit the tokens
        return Example.from_dict(nlp.make_doc(line["text"]), {"entities": line["entities"]})


def learn(nlp: Language, examples: list[Example], optimizer: Any, *, passes: int, rng: random.Random) -> None:
    """Train with `nlp.update` at a linearly falling learn rate."""
    model: Any = nlp.get_pipe("ner").model
    for done, total, part in batches(examples, passes=passes, rng=rng):
        scale_learn_rate(model, max(LAST_RATE, 1.0 - done / total))
        nlp.update(part, sgd=optimizer)


def batches(
    examples: list[Example], *, passes: int, rng: random.Random
) -> Iterator[tuple[int, int, Sequence[Example]]]:
    total, done = passes * -(-len(examples) // BATCH), 0
    for _ in range(passes):
        rng.shuffle(examples)
        for start in range(0, len(examples), BATCH):
            yield done, total, examples[start : start + BATCH]
            done += 1


def evaluated(nlp: Language, lines: list[JsonLine]) -> tuple[float, float]:
    """F1 of exact character spans, and milliseconds per text."""
    started = time.perf_counter()
    docs = list(nlp.pipe(line["text"] for line in lines))
    milliseconds = (time.perf_counter() - started) / len(lines) * 1e3
    hits = found = gold = 0
    for doc, line in zip(docs, lines, strict=True):
        predicted = {(span.start_char, span.end_char, span.label_) for span in doc.ents}
        annotated = set(line["entities"])
        hits, found, gold = hits + len(predicted & annotated), found + len(predicted), gold + len(annotated)
    return 2 * hits / (found + gold), milliseconds


def size(path: Path) -> float:
    return path.stat().st_size / 1e6 if path.is_file() else 0.0
