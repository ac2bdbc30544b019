"""How well, how fast and how small entities are learned: `python benchmarks/accuracy_entities.py DATA/snips`.

`DATA/snips` has `train.jsonl` and `test.jsonl`, a `{"text": ..., "entities": [[start, end, label]]}` a line.
A gold span that does not fit the tokens counts as missed. `--dev N` holds N texts of train out and does not
look at test: for choosing what is chosen by hand.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.training import Example

from karen_learner.components.own_weights import scale_learn_rate

Row = dict[str, Any]
Figures = dict[str, float]
LAST_RATE = 0.05


def main() -> None:
    options = arguments()
    train, test = splits(options)
    runs = [ours(train, test, options, seed) for seed in range(options.seeds)]
    for figures in runs:
        show("karen_ner", figures)
    for name in runs[0] if len(runs) > 1 else ():
        values = [figures[name] for figures in runs]
        print(f"{name}: mean {statistics.mean(values):.4f}, spread {max(values) - min(values):.4f}")
    if options.stock:
        show("stock ner", stock(train, test, options))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument(
        "--dev", type=int, default=0, help="hold out so many texts of train, leave test alone"
    )
    parser.add_argument("--model", type=json.loads, default={}, help="options of the architecture, as JSON")
    parser.add_argument("--stock", action="store_true", help="spaCy's own ner, too")
    parser.add_argument("--stock-passes", type=int, default=10)
    return parser.parse_args()


def splits(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    train = read(options.data / "train.jsonl")
    if not options.dev:
        return train, read(options.data / "test.jsonl")
    random.Random(42).shuffle(train)
    return train[options.dev :], train[: options.dev]


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def ours(train: list[Row], test: list[Row], options: argparse.Namespace, seed: int) -> Figures:
    """Train through `nlp.update`, save, load, and measure what was loaded."""
    model = {"@architectures": "karen_learner.SparseChain.v1", **options.model}
    nlp = spacy.blank("en")
    nlp.add_pipe("karen_ner", name="ner", config={"model": model})
    return measured(nlp, train, test, passes=options.passes, batch=options.batch, seed=seed)


def stock(train: list[Row], test: list[Row], options: argparse.Namespace) -> Figures:
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    return measured(nlp, train, test, passes=options.stock_passes, batch=options.batch, seed=0)


def measured(
    nlp: Language, train: list[Row], test: list[Row], *, passes: int, batch: int, seed: int
) -> Figures:
    spacy.util.fix_random_seed(seed)
    examples = [example(nlp, row) for row in train]
    started = time.perf_counter(), time.process_time()
    optimizer = nlp.initialize(lambda: examples)
    learn(nlp, examples, optimizer, passes=passes, batch=batch, rng=random.Random(seed))
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


def example(nlp: Language, row: Row) -> Example:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # spans that do not fit the tokens
        return Example.from_dict(
            nlp.make_doc(row["text"]), {"entities": [tuple(one) for one in row["entities"]]}
        )


def learn(
    nlp: Language, examples: list[Example], optimizer: Any, *, passes: int, batch: int, rng: random.Random
) -> None:
    """Through `nlp.update`, at a learn rate that falls in a line."""
    model: Any = nlp.get_pipe("ner").model
    for done, total, part in batches(examples, passes=passes, batch=batch, rng=rng):
        scale_learn_rate(model, max(LAST_RATE, 1.0 - done / total))
        nlp.update(part, sgd=optimizer)


def batches(
    examples: list[Example], *, passes: int, batch: int, rng: random.Random
) -> Iterator[tuple[int, int, Sequence[Example]]]:
    total, done = passes * -(-len(examples) // batch), 0
    for _ in range(passes):
        rng.shuffle(examples)
        for start in range(0, len(examples), batch):
            yield done, total, examples[start : start + batch]
            done += 1


def evaluated(nlp: Language, rows: list[Row]) -> tuple[float, float]:
    """F1 of exact spans over the characters of the text, and milliseconds a text."""
    started = time.perf_counter()
    docs = list(nlp.pipe(row["text"] for row in rows))
    took = (time.perf_counter() - started) / len(rows) * 1e3
    hits = found = gold = 0
    for doc, row in zip(docs, rows, strict=True):
        ours = {(span.start_char, span.end_char, span.label_) for span in doc.ents}
        theirs = {tuple(one) for one in row["entities"]}
        hits, found, gold = hits + len(ours & theirs), found + len(ours), gold + len(theirs)
    return 2 * hits / (found + gold), took


def size(path: Path) -> float:
    return path.stat().st_size / 1e6 if path.is_file() else 0.0


def show(name: str, figures: Figures) -> None:
    print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
