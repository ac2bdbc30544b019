"""Accuracy on early labels after later ones: labels arrive step by step.

    python benchmarks/forgetting.py DATA/clinc150 [--steps 10] [--replay 1500] [--seeds 3] [--selection all]
    python benchmarks/forgetting.py DATA/snips --task entities

For intents, each step adds an equal part of the labels (10 steps of 15 for clinc150). For entities, each step
adds the texts of one intent with its own entity types. Every step continues the training with the package's
training loop and `--replay` stored examples of earlier steps.

`package` selects the replayed examples as the package does. From a class-balanced pool, the pipe draws half
evenly over labels, half in proportion to the loss. Both have importance weights. `--selection` compares other
selections of the same size without weights.

- final: score on the test file after the last step;
- forgetting: mean drop of each step's labels from their best score (Chaudhry et al., 2018);
- backward transfer: last score of each step's labels minus the score after that step (Lopez-Paz and
  Ranzato, 2017).

Controls: `naive` replays nothing; `joint` trains on all labels at once.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from spacy.language import Language
from spacy.tokens import Doc

from karen_learner.corpora.docbin import to_doc
from karen_learner.corpora.lines import CorruptExample
from karen_learner.corpora.parsing import CorpusLine
from karen_learner.curation.selection import REPLAY_POOL, water_fill
from karen_learner.metrics import Span, span_f1
from karen_learner.records import LabelledText, Task
from karen_learner.records.training import PipelineSpec
from karen_learner.settings import Settings, load_settings
from karen_learner.simulation import read_corpus
from karen_learner.training.pipelines import TrainablePipeline
from karen_learner.training.prediction import spans_of
from karen_learner.training.replay import sample_replay, training_examples
from karen_learner.training.trainer import PipeTrainer, plan_of

Selection = Callable[["Learner", Sequence[LabelledText], int, random.Random], list[LabelledText]]
ROOT = Path(__file__).parent.parent


@dataclass
class StepScores:
    """`matrix[i][j]`: the score on the labels of step j after step i. A joint training has one line."""

    matrix: list[list[float]]
    final: float
    seconds: float

    @property
    def forgetting(self) -> float:
        last = self.matrix[-1] if len(self.matrix) > 1 else []
        drops = [max(scores[j] for scores in self.matrix[j:]) - last[j] for j in range(len(last) - 1)]
        return statistics.mean(drops) if drops else 0.0

    @property
    def backward_transfer(self) -> float:
        last = self.matrix[-1] if len(self.matrix) > 1 else []
        changes = [last[j] - self.matrix[j][j] for j in range(len(last) - 1)]
        return statistics.mean(changes) if changes else 0.0


class Learner:
    """One pipe, trained as the worker trains it."""

    def __init__(self, task: Task, settings: Settings, template: Path, seed: int) -> None:
        self._task = task
        self._settings = settings.training
        self._rng = random.Random(seed)
        self._pipeline = TrainablePipeline.open(PipelineSpec(template=template))
        self._labels: dict[str, None] = {}
        self.seconds = 0.0

    @property
    def nlp(self) -> Language:
        return self._pipeline.nlp

    @property
    def _continues(self) -> bool:
        return self._task in self._pipeline.tasks

    def learn(
        self, new: Sequence[LabelledText], replay: Sequence[LabelledText] = (), *, budget: int = 0
    ) -> None:
        """Continue with the new examples and up to `budget` replayed ones, as the worker does."""
        plan = plan_of(self._settings, mode="full", continues=self._continues)
        self._labels.update(dict.fromkeys(label for one in new for label in labels_of(self._task, one)))
        docs, pool = self._docs(new), self._docs(replay)
        self._pipeline.prepare({self._task: tuple(self._labels)}, [*docs, *pool])
        started = time.perf_counter()
        pipe, known = self._pipeline.pipe(self._task), self._pipeline.labelled(self._task, pool)
        replayed = sample_replay(pipe, known, budget=budget, rng=self._rng)
        trainer = PipeTrainer(
            self.nlp, self._task, pipe.name, settings=self._settings, plan=plan, rng=self._rng
        )
        for _ in trainer.passes(training_examples(self._pipeline, self._task, docs, replayed)):
            pass
        self.seconds += time.perf_counter() - started

    def score(self, texts: Sequence[LabelledText]) -> float:
        """Accuracy, or F1 of exact spans; a misaligned gold span counts as missed."""
        if self._task == "entities":
            docs = zip(texts, self.nlp.pipe(one.text for one in texts), strict=True)
            return span_f1((gold_spans(one), spans_of(doc)) for one, doc in docs)
        known = [one for one in texts if one.intent in self._labels]
        right = sum(intent == one.intent for intent, one in zip(self.intents(known), known, strict=True))
        return right / len(texts)

    def intents(self, texts: Sequence[LabelledText]) -> list[str]:
        labels = self._pipeline.pipe(self._task).labels
        docs = self.nlp.pipe(one.text for one in texts)
        return [max(labels, key=lambda label: doc.cats.get(label, 0.0)) for doc in docs]

    def margins(self, texts: Sequence[LabelledText]) -> np.ndarray:
        """Score of the true label minus the best wrong one."""
        margins = []
        for doc, one in zip(self.nlp.pipe(one.text for one in texts), texts, strict=True):
            others = max((score for label, score in doc.cats.items() if label != one.intent), default=0.0)
            margins.append(doc.cats.get(one.intent or "", 0.0) - others)
        return np.asarray(margins)

    def _docs(self, texts: Sequence[LabelledText]) -> list[Doc]:
        docs = []
        for one in texts:
            with contextlib.suppress(CorruptExample):
                docs.append(to_doc(self.nlp, one))
        return docs


def gold_spans(one: LabelledText) -> list[Span]:
    return [(span.start, span.end, span.label) for span in one.entities or ()]


def labels_of(task: Task, one: LabelledText) -> list[str]:
    if task == "entities":
        return [span.label for span in one.entities or ()]
    return [one.intent] if one.intent is not None else []


def package(_: Learner, seen: Sequence[LabelledText], budget: int, rng: random.Random) -> list[LabelledText]:
    """A class-balanced pool with importance weights; the pipe draws from it."""
    pool: list[LabelledText] = []
    groups = _classes(seen)
    for name, share in water_fill(_sizes(groups), REPLAY_POOL * budget).items():
        drawn = rng.sample(groups[name], share)
        pool += [CorpusLine(**dict(one), importance_weight=len(groups[name]) / share) for one in drawn]
    return pool


def balanced(_: Learner, seen: Sequence[LabelledText], budget: int, rng: random.Random) -> list[LabelledText]:
    """A class-balanced random sample."""
    return _by_class(seen, budget, lambda group: rng.sample(group, len(group)))


def reservoir(
    _: Learner, seen: Sequence[LabelledText], budget: int, rng: random.Random
) -> list[LabelledText]:
    """A random sample over all classes."""
    return rng.sample(list(seen), min(budget, len(seen)))


def herding(_: Learner, seen: Sequence[LabelledText], budget: int, __: random.Random) -> list[LabelledText]:
    """For each class, the examples whose mean is nearest to the class mean (Welling, 2009; iCaRL)."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    vectorizer.fit(one.text for one in seen)
    return _by_class(seen, budget, lambda group: _herded(vectorizer, group, budget))


def hardest(
    learner: Learner, seen: Sequence[LabelledText], budget: int, _: random.Random
) -> list[LabelledText]:
    """For each class, the examples with the smallest margin."""
    margins = dict(zip(map(id, seen), learner.margins(seen), strict=True))
    return _by_class(seen, budget, lambda group: sorted(group, key=lambda one: margins[id(one)]))


def by_loss(
    learner: Learner, seen: Sequence[LabelledText], budget: int, rng: random.Random
) -> list[LabelledText]:
    """A sample in proportion to the loss, over all classes."""
    weights = np.log1p(np.exp(-5.0 * learner.margins(seen)))
    draws = np.random.default_rng(rng.randrange(2**32))
    chosen = draws.choice(len(seen), min(budget, len(seen)), replace=False, p=weights / weights.sum())
    return [seen[at] for at in chosen]


SELECTIONS: Mapping[str, Selection] = {
    "package": package,
    "balanced": balanced,
    "reservoir": reservoir,
    "herding": herding,
    "hardest": hardest,
    "by loss": by_loss,
}


def _by_class(
    seen: Sequence[LabelledText],
    budget: int,
    ranked: Callable[[list[LabelledText]], Sequence[LabelledText]],
) -> list[LabelledText]:
    groups = _classes(seen)
    shares = water_fill(_sizes(groups), budget)
    return [one for name, group in groups.items() for one in ranked(group)[: shares[name]]]


def _classes(seen: Sequence[LabelledText]) -> dict[str, list[LabelledText]]:
    groups: dict[str, list[LabelledText]] = defaultdict(list)
    for one in seen:
        groups[one.intent or "none"].append(one)
    return groups


def _sizes(groups: Mapping[str, list[LabelledText]]) -> dict[str, int]:
    return {name: len(group) for name, group in groups.items()}


def _herded(vectorizer: TfidfVectorizer, group: list[LabelledText], budget: int) -> list[LabelledText]:
    vectors = vectorizer.transform(one.text for one in group).toarray()
    mean, total = vectors.mean(axis=0), np.zeros(vectors.shape[1])
    left, order = list(range(len(group))), []
    for count in range(1, min(len(group), budget) + 1):
        distances = np.linalg.norm(mean - (total + vectors[left]) / count, axis=1)
        order.append(left.pop(int(distances.argmin())))
        total += vectors[order[-1]]
    return [group[at] for at in order]


def steps_of(task: Task, texts: Sequence[LabelledText], steps: int, seed: int) -> list[set[str]]:
    """The intents of each step."""
    names = sorted({one.intent for one in texts if one.intent is not None})
    random.Random(seed).shuffle(names)
    if task == "entities":
        return [{name} for name in names]
    size = -(-len(names) // steps)
    return [set(names[start : start + size]) for start in range(0, len(names), size)]


def run(
    make: Callable[[], Learner],
    parts: Sequence[Sequence[LabelledText]],
    tests: Sequence[Sequence[LabelledText]],
    *,
    select: Selection | None,
    budget: int,
    rng: random.Random,
) -> StepScores:
    """Train on the parts in order; without `select` nothing is replayed."""
    learner, seen, matrix = make(), [], []
    for part in parts:
        replay = select(learner, seen, budget, rng) if select is not None and seen else []
        learner.learn(part, replay, budget=budget)
        seen += part
        matrix.append([learner.score(test) for test in tests])
    return StepScores(matrix, learner.score([one for test in tests for one in test]), learner.seconds)


def report(name: str, runs: Sequence[StepScores], joint: float) -> None:
    finals = [one.final for one in runs]
    spread = statistics.stdev(finals) if len(finals) > 1 else 0.0
    print(
        f"{name:12}{statistics.mean(finals):8.4f}{spread:8.4f}"
        f"{statistics.mean(finals) / joint:9.1%}"
        f"{statistics.mean(one.forgetting for one in runs):12.3f}"
        f"{statistics.mean(one.backward_transfer for one in runs):11.3f}"
        f"{statistics.mean(one.seconds for one in runs):10.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a folder with train.jsonl and test.jsonl")
    parser.add_argument("--task", choices=["intent", "entities"], default="intent")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--replay", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--selection", nargs="+", choices=[*SELECTIONS, "all"], default=["package"])
    parser.add_argument("--test-file", help="test file in the folder, for example val.jsonl")
    parser.add_argument("--pipeline", type=Path, default=ROOT / "configs" / "pipeline.cfg")
    options = parser.parse_args()
    if not (options.data / "train.jsonl").is_file():
        raise SystemExit(f"there is no {options.data / 'train.jsonl'}: see benchmarks/README.md for the sets")
    test_file = options.data / (options.test_file or "test.jsonl")
    corpus = read_corpus(options.data / "train.jsonl", test_file)
    selections = list(SELECTIONS) if "all" in options.selection else options.selection
    runs: dict[str, list[StepScores]] = defaultdict(list)
    for seed in range(options.seeds):
        steps = steps_of(options.task, corpus.train, options.steps, seed)
        parts = [[one for one in corpus.train if one.intent in step] for step in steps]
        tests = [[one for one in corpus.test if one.intent in step] for step in steps]

        def make(seed: int = seed) -> Learner:
            return Learner(options.task, load_settings(), options.pipeline, seed)

        joint_parts, rng = [[one for part in parts for one in part]], random.Random(seed)
        runs["joint"].append(run(make, joint_parts, tests, select=None, budget=0, rng=rng))
        runs["naive"].append(run(make, parts, tests, select=None, budget=0, rng=rng))
        for name in selections:
            found = run(make, parts, tests, select=SELECTIONS[name], budget=options.replay, rng=rng)
            runs[name].append(found)
    joint = statistics.mean(one.final for one in runs["joint"])
    print(f"{len(steps)} steps, replay of {options.replay}, {options.seeds} seeds, test: {test_file.name}")
    print(f"{'':12}{'final':>8}{'stdev':>8}{'of joint':>9}{'forgetting':>12}{'backward':>11}{'seconds':>10}")
    for name, found in runs.items():
        report(name, found, joint)
    print("target: at least 98.5 % of joint")


if __name__ == "__main__":
    main()
