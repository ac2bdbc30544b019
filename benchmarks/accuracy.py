"""Accuracy, speed and size of the components and of common alternatives, measured in one run.

    python benchmarks/accuracy.py --data DIR [--seeds 3] [--only clinc150 meld snips]
                                  [--encoder FOLDER] [--stock]

DIR has one folder per data set with JSON lines (`text`, and `intent`, `sentiment` or `entities`):
clinc150/{train,val,test,oos_train,oos_test}.jsonl (https://github.com/clinc/oos-eval),
meld/{train,val,test}.jsonl (with `dialogue`; https://github.com/declare-lab/MELD) and
snips/{train,test}.jsonl (https://github.com/snipsco/nlu-benchmark, Coucke et al., arXiv 1805.10190). A set
with a missing file is skipped.

Thresholds and temperatures are fitted on `val`. `test` is evaluated once. `--encoder` adds our pipe with
sentence vectors (docs/encoder.md describes the folder) and a peer on the same vectors. `--stock` adds spaCy's
own pipes, which takes minutes. Figures of our pipes are measured after saving and loading, except the
calibration error before calibration. "MB" is the size of the serving weights: eight bits for our pipes,
the coefficients for LinearSVC.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import accuracy_encoder
import accuracy_entities
import accuracy_text
from accuracy_text import Systems

PARTS: dict[str, Callable[[Path, argparse.Namespace, Systems], Iterator[tuple[str, dict[str, float]]]]] = {
    "clinc150": accuracy_text.clinc150,
    "meld": accuracy_text.meld,
    "snips": accuracy_entities.snips,
}
"""For each data set a generator of system names with the figures of one run."""

FILES = {
    "clinc150": ("train", "val", "test", "oos_train", "oos_test"),
    "meld": ("train", "val", "test"),
    "snips": ("train", "test"),
}


@dataclass
class Table:
    """Figures of all runs, by system and measure."""

    runs: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, system: str, figures: dict[str, float]) -> None:
        measured = self.runs.setdefault(system, {})
        for name, value in figures.items():
            measured.setdefault(name, []).append(value)

    def lines(self) -> Iterator[str]:
        names = list(dict.fromkeys(name for measured in self.runs.values() for name in measured))
        width = max(len(system) for system in self.runs)
        sizes = [max(len(name), 15) for name in names]
        yield " ".join(["system".ljust(width), *(f"{n:>{s}}" for n, s in zip(names, sizes, strict=True))])
        for system, measured in self.runs.items():
            values = [mean_and_deviation(measured.get(name, [])) for name in names]
            cells = [f"{value:>{s}}" for value, s in zip(values, sizes, strict=True)]
            yield " ".join([system.ljust(width), *cells])


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean and standard deviation; empty without values."""
    if not values:
        return ""
    mean = statistics.mean(values)
    digits = 0 if abs(mean) >= 1000 else 1 if abs(mean) >= 10 else 4
    spread = f" ±{statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--encoder", type=Path, default=None)
    parser.add_argument("--stock", action="store_true")
    options = parser.parse_args()
    systems = accuracy_text.WITHOUT_ENCODER
    if options.encoder is not None:
        systems = systems.joined_with(accuracy_encoder.with_encoder(options.encoder))
    for name in options.only:
        absent = [file for file in FILES[name] if not (options.data / name / f"{file}.jsonl").is_file()]
        if absent:
            print(f"{name}: no {', '.join(absent)} in {options.data / name}; see --help for its address")
            continue
        table = Table()
        for system, figures in PARTS[name](options.data / name, options, systems):
            table.add(system, figures)
        print(f"\n{name}", *table.lines(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
