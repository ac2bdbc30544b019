"""Run all benchmarks in turn: `make bench DATA=DIR`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "corpus" / "telecom"
SCRIPTS = (
    "collect.py",
    "responsiveness.py",
    "million.py",
    "crash.py",
    "cost.py",
    "production_log.py",
    "trends.py",
)
SIMULATION_OPTIONS = (
    "--shots=10", "--correction-rate=0.3", "--rating-rate=0.3", "--noise=0.05", "--cycles=10",
)  # fmt: skip
DATA_SOURCE = (
    "the set is at github.com/clinc/oos-eval, CC BY 3.0; DATA/clinc150 holds train.jsonl and test.jsonl"
)


def simulation(data: Path | None) -> list[str]:
    """The command of the simulation, on clinc150 if available."""
    corpus = data / "clinc150" if data is not None else SHIPPED
    if not (corpus / "train.jsonl").is_file():
        raise SystemExit(f"there is no {corpus / 'train.jsonl'}: {DATA_SOURCE}")
    if data is None:
        print(f"no DATA given: the simulation runs on the shipped corpus ({DATA_SOURCE})")
    return ["-m", "karen_learner.cli", "simulate", str(corpus), *SIMULATION_OPTIONS]


def comparisons(data: Path, encoder: Path | None) -> list[list[str]]:
    """The commands that need data sets."""
    clinc = str(data / "clinc150")
    vectors = [] if encoder is None else ["--encoder", str(encoder)]
    commands = [
        [str(HERE / "accuracy.py"), "--data", str(data), "--stock", *vectors],
        [str(HERE / "gates.py"), "--data", str(data)],
        [str(HERE / "stream.py"), clinc],
        [str(HERE / "forgetting.py"), clinc],
        [str(HERE / "detection.py")],
        [str(HERE / "impact.py")],
        [str(HERE / "holdback.py"), clinc],
        [str(HERE / "recording.py")],
        [str(HERE / "bandit.py")],
        [str(HERE / "events.py")],
        [str(HERE / "transfer.py")],
        [str(HERE / "micro.py"), clinc],
    ]
    if (data / "snips" / "train.jsonl").is_file():
        commands.append([str(HERE / "forgetting.py"), str(data / "snips"), "--task", "entities"])
    return commands


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--encoder", type=Path, default=None)
    options = parser.parse_args()
    data = [] if options.data is None else ["--data", str(options.data)]
    commands = [simulation(options.data), [str(HERE / "latency.py"), *data]]
    commands += [[str(HERE / script)] for script in SCRIPTS]
    if options.data is not None:
        commands += comparisons(options.data, options.encoder)
    failed = 0
    for command in commands:
        print(f"\n== {' '.join(command)}", flush=True)
        failed += subprocess.run([sys.executable, *command], check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
