"""Time of an analysis, and of the first minutes with the package, against peers of the same run.

    python benchmarks/latency.py [--data DIR] [--rounds 5]

First part, with `--data`: texts of clinc150 through three pipes. They are trained on intents of clinc150,
sentiments of meld and entities of snips. Peers are spaCy's CNN categorizers and `ner`, and LinearSVC for the
intent alone. Each round measures all systems one after the other. The weights of spaCy's pipes do not
change their time, so they train for a few steps.

Second part, each in a new process: imports, the first example of the README, `analyze` on the command line,
and with `--data` the bootstrap of 400 texts of snips.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import spacy
from accuracy_text import STOCK
from peers import make_linear_svc
from spacy.language import Language
from spacy.training import Example

from karen_learner import create_spacy_analyzer
from karen_learner.components.online.shim import scale_learn_rate
from karen_learner.corpora.importers import iter_labelled, required
from karen_learner.records import LabelledText, Task

Factories = Mapping[str, tuple[str, dict[str, Any]]]
"""Factory and config of each pipe."""
ROOT = Path(__file__).parent.parent
PIPES = ("intent", "sentiment", "ner")
ALONE, BATCHED, BATCH = 400, 2_048, 64
BATCH_OF_TRAINING, PASSES, STEPS_OF_PEERS, LAST_RATE = 32, 4, 20, 0.05
TRAINING_TEXTS = 5_000
SNIPS_TEXTS = 400
OURS, SPACY, SVC = "karen_learner", "spaCy: 2 CNN textcat, ner", "LinearSVC, intent alone"
TARGETS = {
    "alone": 1.5, "batch": 0.25, "analyze p50": 2.0, "analyze p99": 4.0, "import above spaCy": 0.3,
    "README": 4.0, "analyze of the CLI": 2.5, "400 texts": 12.0,
}  # fmt: skip
"""Milliseconds of an analysis, seconds of the rest, on two quiet cores."""
LARGEST_SHARE = 0.5
BOOTSTRAP = """
import asyncio, sys
from karen_learner import create_autonomous_learner
async def main():
    async with create_autonomous_learner(home=sys.argv[1]) as learner:
        print((await learner.bootstrap("snips", sys.argv[2])).status)
asyncio.run(main())
"""


@dataclass
class Times:
    """Milliseconds a text of one system: alone, and for each round in batches."""

    alone: list[float] = field(default_factory=list)
    batched: list[float] = field(default_factory=list)


def read(data: Path, name: str, part: str = "train") -> list[LabelledText]:
    return list(required(iter_labelled(data / name / f"{part}.jsonl")))


def examples(nlp: Language, data: Path) -> dict[str, list[Example]]:
    """Training examples of each pipe."""

    def make(
        texts: Sequence[LabelledText], annotation: Callable[[LabelledText], dict[str, Any]]
    ) -> list[Example]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # spans that do not fit the tokens
            return [Example.from_dict(nlp.make_doc(one.text), annotation(one)) for one in texts]

    def spans(one: LabelledText) -> dict[str, Any]:
        return {"entities": [(span.start, span.end, span.label) for span in one.entities or ()]}

    return {
        "intent": make(read(data, "clinc150"), lambda one: {"cats": {one.intent: 1.0}}),
        "sentiment": make(read(data, "meld")[:TRAINING_TEXTS], lambda one: {"cats": {one.sentiment: 1.0}}),
        "ner": make(read(data, "snips")[:TRAINING_TEXTS], spans),
    }


def trained(
    factories: Mapping[str, tuple[str, dict[str, Any]]], data: Path, *, steps: int | None
) -> Language:
    """A pipeline with these pipes, after all passes or the given number of steps."""
    nlp, rng = spacy.blank("en"), random.Random(0)
    for name, (factory, config) in factories.items():
        nlp.add_pipe(factory, name=name, config=config)
    for name, ones in examples(nlp, data).items():
        pipe: Any = nlp.get_pipe(name)
        cats = dict.fromkeys(sorted({label for one in ones for label in one.reference.cats}), 0.0)
        if steps is not None:  # spaCy's categorizers need every label of each text
            for one in ones:
                one.reference.cats = {**cats, **one.reference.cats}
        pipe.initialize(lambda ones=ones: ones, nlp=nlp)
        optimizer, others = nlp.create_optimizer(), [other for other in nlp.pipe_names if other != name]
        batches = [batch for _ in range(PASSES) for batch in shuffled(ones, rng)][:steps]
        for done, batch in enumerate(batches):
            scale_learn_rate(pipe.model, max(LAST_RATE, 1.0 - done / len(batches)))
            nlp.update(batch, sgd=optimizer, exclude=others)
    return nlp


def shuffled(ones: list[Example], rng: random.Random) -> Iterable[list[Example]]:
    rng.shuffle(ones)
    return (ones[at : at + BATCH_OF_TRAINING] for at in range(0, len(ones), BATCH_OF_TRAINING))


def pipelines(data: Path, folder: Path) -> dict[str, Language]:
    """Ours and spaCy's, saved and loaded."""
    cnn = {"model": STOCK["spaCy CNN"][0]}
    ours: Factories = {name: ("karen_ner" if name == "ner" else "karen_textcat", {}) for name in PIPES}
    stock: Factories = {name: ("ner", {}) if name == "ner" else ("textcat", cnn) for name in PIPES}
    for name, factories, steps in ((OURS, ours, None), (SPACY, stock, STEPS_OF_PEERS)):
        trained(factories, data, steps=steps).to_disk(folder / name)
    return {name: spacy.load(folder / name) for name in (OURS, SPACY)}


def milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def measure(call: Callable[[list[str]], object], texts: Texts, into: Times) -> None:
    """One round: some texts one by one, others in batches."""
    into.alone += [milliseconds(lambda text=text: call([text])) for text in texts.alone]
    batches = [list(texts.batched[at : at + BATCH]) for at in range(0, BATCHED, BATCH)]
    into.batched.append(sum(milliseconds(lambda batch=batch: call(batch)) for batch in batches) / BATCHED)


@dataclass(frozen=True)
class Texts:
    """Texts of one round. No text is measured alone twice: pipes remember the features of recent texts."""

    alone: Sequence[str]
    batched: Sequence[str]

    @classmethod
    def of_rounds(cls, texts: Sequence[str], rounds: int) -> list[Texts]:
        """Texts of all rounds. Those for batches are more than the pipes remember."""
        return [
            cls(texts[BATCHED + at : BATCHED + at + ALONE], texts[:BATCHED])
            for at in range(0, rounds * ALONE, ALONE)
        ]


def compare(data: Path, folder: Path, *, rounds: int) -> tuple[dict[str, Times], list[float]]:
    """Times of all systems, and of `analyze` with our pipeline."""
    texts = [one.text for one in read(data, "clinc150", "test")]
    random.Random(1).shuffle(texts)
    nlps, train = pipelines(data, folder), read(data, "clinc150")
    svc = make_linear_svc().fit([one.text for one in train], [one.intent for one in train])
    systems: dict[str, Callable[[list[str]], object]] = {
        name: lambda batch, nlp=nlp: [doc.cats for doc in nlp.pipe(batch, batch_size=BATCH)]
        for name, nlp in nlps.items()
    }
    systems[SVC] = svc.predict
    times = {name: Times() for name in systems}
    for number, of_round in enumerate(Texts.of_rounds(texts, rounds + 1)):
        for name, call in systems.items():
            measure(call, of_round, times[name] if number else Times())  # the first round is a warm-up
    others = [one.text for one in read(data, "clinc150", "val")]
    return times, asyncio.run(analyses(folder / OURS, others))


async def analyses(folder: Path, texts: Sequence[str]) -> list[float]:
    """Milliseconds of `analyze`, one call after the other."""
    tasks: dict[Task, str] = {"intent": "intent", "sentiment": "sentiment", "entities": "ner"}
    found: list[float] = []
    async with create_spacy_analyzer(folder, tasks=tasks) as analyzer:
        for text in texts:
            started = time.perf_counter()
            await analyzer.analyze(text)
            found.append((time.perf_counter() - started) * 1e3)
    return found[ALONE:]


def seconds_of(*command: str, folder: Path, times: int = 1) -> float:
    """The shortest time of a command in a new process."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has compiled files
    found = []
    for _ in range(times):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        found.append(time.perf_counter() - started)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed: {done.stderr}")
    return min(found)


def first_example() -> str:
    """The first Python example of the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^```python\n(.*?)^```", readme, flags=re.M | re.S)
    if found is None:
        raise SystemExit("the README has no Python example")
    return found[1]


def first_minutes(folder: Path, data: Path | None) -> dict[str, float]:
    """Seconds of each command of the second part."""
    of_spacy = seconds_of("-c", "import spacy", folder=folder, times=3)
    ours = "import spacy; from karen_learner import create_autonomous_learner"
    seconds = {
        "import of spaCy": of_spacy,
        "import above spaCy": seconds_of("-c", ours, folder=folder, times=3) - of_spacy,
        "README": seconds_of("-c", first_example(), folder=folder),
    }
    analyze = ("-m", "karen_learner.cli", "--home", "karen-home", "analyze", "tenant_123", "fly me to Oslo")
    seconds["analyze of the CLI"] = seconds_of(*analyze, folder=folder, times=3)
    if data is not None:
        lines = (data / "snips" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        few = folder / "snips.jsonl"
        few.write_text("".join(lines[:: len(lines) // SNIPS_TEXTS][:SNIPS_TEXTS]), encoding="utf-8")
        seconds["400 texts"] = seconds_of("-c", BOOTSTRAP, "snips-home", str(few), folder=folder)
    return seconds


def percentile(values: Sequence[float], share: float) -> float:
    return statistics.quantiles(values, n=100)[round(share * 100) - 1]


def print_times(times: Mapping[str, Times], analyzed: Sequence[float]) -> None:
    ours = times[OURS]
    print(f"{'ms a text':<28}{'alone p50':>11}{'p99':>8}{'in batches':>12}{'ours/this':>18}")
    for name, one in times.items():
        alone, batched = statistics.median(one.alone), statistics.median(one.batched)
        ratios = (
            f"{statistics.median(ours.alone) / alone:.2f}, {statistics.median(ours.batched) / batched:.2f}"
        )
        print(f"{name:<28}{alone:>11.2f}{percentile(one.alone, 0.99):>8.2f}{batched:>12.3f}{ratios:>18}")
    print(f"{'analyze':<28}{statistics.median(analyzed):>11.2f}{percentile(analyzed, 0.99):>8.2f}")
    measured = {
        "alone": statistics.median(ours.alone),
        "batch": statistics.median(ours.batched),
        "analyze p50": statistics.median(analyzed),
        "analyze p99": percentile(analyzed, 0.99),
    }
    print_targets(measured, unit="ms")
    share = measured["alone"] / statistics.median(times[SPACY].alone)
    print(f"target: at most {LARGEST_SHARE} of spaCy's pipes: {share:.2f} {verdict(share, LARGEST_SHARE)}")


def print_targets(measured: Mapping[str, float], *, unit: str) -> None:
    for name, value in measured.items():
        if name in TARGETS:
            target = TARGETS[name]
            print(f"target: {name} at most {target} {unit}: {value:.2f} {verdict(value, target)}")


def verdict(value: float, target: float) -> str:
    return "reached" if value <= target else "missed"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder of clinc150/, meld/ and snips/")
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 6))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.data is not None:
            print_times(*compare(options.data, Path(folder), rounds=options.rounds))
        seconds = first_minutes(Path(folder), options.data)
    for name, value in seconds.items():
        ratio = value / seconds["import of spaCy"]
        print(f"{name:<28}{value:>8.2f} s{ratio:>8.1f} times the import of spaCy")
    print_targets(seconds, unit="s")


if __name__ == "__main__":
    main()
